# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rapidclaw_global_optspecs
    string join \n json q/quiet v/verbose no-input y/yes server= context= ca-file= h/help V/version
end

function __fish_rapidclaw_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rapidclaw_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rapidclaw_using_subcommand
    set -l cmd (__fish_rapidclaw_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -s V -l version -d 'Print version'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "validate" -d 'Check the manifest and the project behind it'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "build" -d 'Make the image'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "schema" -d 'Print the JSON Schema of langgraph.json, for editors'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "login" -d 'Log in to a server'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "logout" -d 'Forget a login'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "whoami" -d 'Say who is logged in, and where'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "context" -d 'List, choose and forget logins'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "deploy" -d 'Build, roll out, and wait until the new release serves'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "rollback" -d 'Go back to the release that served before, or to any'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "status" -d 'Show agents: replicas, p95, cost per turn'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "releases" -d 'List an agent\'s releases'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "rollouts" -d 'List an agent\'s rollouts; watch or cancel the one under way'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "logs" -d 'Show what an agent\'s replicas wrote'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "runs" -d 'List an agent\'s runs, or show one'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "threads" -d 'List an agent\'s threads, or show one'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "secrets" -d 'Set, list and forget an agent\'s secrets'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "scale" -d 'Say how many replicas an agent shall have'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "keys" -d 'Create, list and revoke an agent\'s keys'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "tokens" -d 'Create, list and revoke tokens of the control API, for people and CI'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "destroy" -d 'Remove an agent with its releases, keys, secrets and threads'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "server" -d 'Run, start and stop the server on this machine'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "doctor" -d 'Say what is missing on this machine, and how to mend it'
complete -c rapidclaw -n "__fish_rapidclaw_needs_command" -f -a "completions" -d 'Print a shell\'s completions'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -s m -l manifest -d 'The manifest' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l manifest-only -d 'Check the manifest alone, not the files it names'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand validate" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -s m -l manifest -d 'The manifest' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l base-image -d 'The image to build on; else the one that the manifest names, else python:X-slim' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l platform -d 'The processor that the image is for; it must be the server\'s' -r -f -a "linux/amd64\t''
linux/arm64\t''"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l registry -d 'Another registry, with this machine\'s Docker login' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l pull -d 'Fetch the base image anew'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l no-cache -d 'Build even when nothing changed, every layer'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l print-dockerfile -d 'Print the Dockerfile and build nothing'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l push -d 'Push the image, into the server\'s registry unless --registry names another'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand build" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand schema" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l store -d 'Where the token shall rest' -r -f -a "auto\t'In the OS keyring where it answers within two seconds, else in the file'
keyring\t'In the OS keyring'
file\t'In a file that only you may read'"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l data-dir -d 'The data folder of the server on this machine' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l local -d 'The server on this machine, with the administrator\'s token'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l token-stdin -d 'Read the token from stdin'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logout" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand whoami" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -f -a "list" -d 'List logins'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -f -a "use" -d 'Use this one in commands that are not told'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and not __fish_seen_subcommand_from list use remove" -f -a "remove" -d 'Forget one, and its token'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from use" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand context; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -s m -l manifest -d 'The manifest' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l base-image -d 'The image to build on; else the one that the manifest names, else python:X-slim' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l platform -d 'The processor that the image is for; it must be the server\'s' -r -f -a "linux/amd64\t''
linux/arm64\t''"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l build -d 'Where to build, local or server; else here where a Docker Engine for the server\'s processor answers' -r -f -a "local\t'With this machine\'s Docker Engine'
server\t'With the server\'s, which gets the project'"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l env-file -d 'Read secrets from this file, not from the manifest\'s `env`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l registry -d 'Push the image into this registry, too, with this machine\'s Docker login' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l timeout -d 'Wait this long for the switch, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l pull -d 'Fetch the base image anew'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l no-cache -d 'Build even when nothing changed, every layer'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l dry-run -d 'Print what a deploy would do, and do nothing'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l exit-code -d 'With --dry-run: exit 8 when something would change'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l detach -d 'Do not wait for the switch'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l wait -d 'Wait for a rollout of the agent that is under way (within --timeout), then deploy'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand deploy" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l agent -d 'The agent; else the one of the manifest here, else the only one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l timeout -d 'Wait this long for the switch, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l keep-secrets -d 'Keep today\'s secrets instead of going back to those of the old release'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l detach -d 'Do not wait for the switch'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollback" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -s w -l watch -d 'Go on showing it: in place on a terminal, a line on each change elsewhere'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand status" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l limit -d 'How many, newest first' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand releases" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l limit -d 'How many, newest first' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l watch -d 'Watch the rollout under way to its end, as deploy does'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l cancel -d 'End the rollout under way; what served before serves on'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand rollouts" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l thread -d 'Only lines of this thread' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l run -d 'Only lines of this run' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l replica -d 'Only lines of this replica: its id, or the end of it' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l since -d 'Only lines written since then: 15m, 2h, 3d ago, or a time by RFC 3339' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s n -l lines -d 'How many lines, the newest; 100 where --since is not given' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s f -l follow -d 'Go on with what is written from now on'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand logs" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l thread -d 'Only runs of this thread' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l status -d 'Only runs in this state' -r -f -a "pending\t''
running\t''
success\t''
error\t''
timeout\t''"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l limit -d 'How many, newest first' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and not __fish_seen_subcommand_from show" -a "show" -d 'Show one run: what was asked, where it was executed, what came of it'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand runs; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l limit -d 'How many, those that ran last first' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and not __fish_seen_subcommand_from show" -a "show" -d 'Show one thread: its newest checkpoint and its runs'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand threads; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -f -a "set" -d 'Set a secret; its value comes from stdin or a hidden prompt'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -f -a "list" -d 'List names and when they changed; values are never shown'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -f -a "unset" -d 'Forget secrets'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -f -a "rotate" -d 'Replace a secret\'s value wherever it is kept, so that no rollback brings the old one back'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and not __fish_seen_subcommand_from set list unset rotate import" -f -a "import" -d 'Set all secrets of a dotenv file; what it does not name stays'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l timeout -d 'Wait this long, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l detach -d 'Do not wait until it is done'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l timeout -d 'Wait this long, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l detach -d 'Do not wait until it is done'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from unset" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l timeout -d 'Wait this long, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l detach -d 'Do not wait until it is done'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l timeout -d 'Wait this long, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l detach -d 'Do not wait until it is done'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand secrets; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l timeout -d 'Wait this long, in seconds' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l detach -d 'Do not wait until it is done'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand scale" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -f -a "create" -d 'Make a key; it is shown this once'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -f -a "list" -d 'List keys'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and not __fish_seen_subcommand_from create list revoke" -f -a "revoke" -d 'Make a key open nothing any more'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l name -d 'What it is for' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand keys; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -f -a "create" -d 'Create a token; it is shown this once'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -f -a "list" -d 'List tokens, those that work no more as well; values are never shown'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and not __fish_seen_subcommand_from create list revoke" -f -a "revoke" -d 'Revoke a token: it opens nothing from now on'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l role -d 'What it may do' -r -f -a "admin\t''
deployer\t''
viewer\t''
invoke\t''"
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l agent -d 'Limit it to this agent, which need not be deployed yet; may be repeated' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l expires -d 'How long it works (12h, 90d); else until it is revoked' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand tokens; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand destroy" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "run" -d 'Run the server in the foreground'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "start" -d 'Start the server in the background, and wait until it answers'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "restart" -d 'Replace the server on this machine by this binary, without failing a request'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "stop" -d 'Stop the server on this machine, its replicas and its Postgres; all data stay'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "status" -d 'Say whether a server runs on this machine'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "backup" -d 'Write all that the server keeps into one file: databases and registry, without the key of its secrets'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and not __fish_seen_subcommand_from run start restart stop status backup restore" -f -a "restore" -d 'Make a new data folder from a backup'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l listen -d 'Where the control API answers' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l agents-listen -d 'Where agents answer' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l public-url -d 'How the control API is called from elsewhere' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l agents-public-url -d 'How agents are called from elsewhere; else by the host of --public-url and the port of --agents-listen' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l tls-cert -d 'Speak TLS with this certificate and those that lead to its authority\'s (PEM); read again when it changes' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l tls-key -d 'The certificate\'s private key (PEM)' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l postgres-image -d 'Take the managed Postgres from this image; else the machine\'s own is used, and where it has none postgres:17' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l provider -d 'A model provider\'s address for all agents (openai=URL, anthropic=URL); it may be this machine' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l resolve -d 'An address for a name that agents reach, as curl has it' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l keep-images -d 'How many releases of each agent keep their images, so that a rollback can go there' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l build-jobs -d 'How many images to build at once for those who deploy, 0: none; else half as many as processors' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l insecure -d 'Listen on other addresses than loopback\'s without TLS'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l log-json -d 'Write the log as JSON'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l detached -d 'Begin a session of its own (`server start` does)'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l takeover -d 'Take over from the server that runs (`server restart` does)'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l listen -d 'Where the control API answers' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l agents-listen -d 'Where agents answer' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l public-url -d 'How the control API is called from elsewhere' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l agents-public-url -d 'How agents are called from elsewhere; else by the host of --public-url and the port of --agents-listen' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l tls-cert -d 'Speak TLS with this certificate and those that lead to its authority\'s (PEM); read again when it changes' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l tls-key -d 'The certificate\'s private key (PEM)' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l postgres-image -d 'Take the managed Postgres from this image; else the machine\'s own is used, and where it has none postgres:17' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l provider -d 'A model provider\'s address for all agents (openai=URL, anthropic=URL); it may be this machine' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l resolve -d 'An address for a name that agents reach, as curl has it' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l keep-images -d 'How many releases of each agent keep their images, so that a rollback can go there' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l build-jobs -d 'How many images to build at once for those who deploy, 0: none; else half as many as processors' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l insecure -d 'Listen on other addresses than loopback\'s without TLS'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l log-json -d 'Write the log as JSON'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l detached -d 'Begin a session of its own (`server start` does)'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l takeover -d 'Take over from the server that runs (`server restart` does)'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l listen -d 'Where the control API answers from now on' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l agents-listen -d 'Where agents answer from now on' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l public-url -d 'How the control API is called from elsewhere' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l agents-public-url -d 'How agents are called from elsewhere; else by the host of --public-url and the port of --agents-listen' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l tls-cert -d 'Speak TLS with this certificate and those that lead to its authority\'s (PEM); read again when it changes' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l tls-key -d 'The certificate\'s private key (PEM)' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l provider -d 'Model providers\' addresses for all agents (openai=URL, anthropic=URL), in place of all before' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l resolve -d 'Addresses for names that agents reach, as curl has them, in place of all before' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l keep-images -d 'How many releases of each agent keep their images, so that a rollback can go there' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l build-jobs -d 'How many images to build at once for those who deploy, 0: none' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l insecure -d 'Listen on other addresses than loopback\'s without TLS'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l log-json -d 'Write the log as JSON'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from backup" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l data-dir -d 'The data folder; /var/lib/rapidclaw for root, the XDG data folder else' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l key-file -d 'The key file of the server that was backed up; else the one beside the data folder' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l postgres-image -d 'Take the managed Postgres from this image' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand server; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -s m -l manifest -d 'The manifest' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l base-image -d 'The image that builds stand on' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l data-dir -d 'The data folder of the server on this machine' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -l server -d 'The server to talk to; else `RAPIDCLAW_SERVER`' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -l context -d 'The login to use; else `RAPIDCLAW_CONTEXT`, else the current one' -r
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -l ca-file -d 'Trust these authorities beside the system\'s (PEM); else `RAPIDCLAW_CA_FILE`' -r -F
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -l json -d 'Print JSON on stdout'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -s q -l quiet -d 'Print no progress and no hints'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -s v -l verbose -d 'Say more; twice: everything'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -l no-input -d 'Never ask'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -s y -l yes -d 'Answer yes to every question'
complete -c rapidclaw -n "__fish_rapidclaw_using_subcommand completions" -s h -l help -d 'Print help'
