//! Code that calls another provider with the key of one whose calls go through the model gateway: a replica has the
//! gateway's key under that name, and whoever else gets it answers 401.
//!
//! `ChatOpenAI(base_url="https://openrouter.ai/api/v1")` is such a call. Where a URL or a key comes from a place that
//! cannot be seen in the same file, nothing is said.

use super::tokens::{Token, place, scan};

/// A provider's variables and the classes of its SDKs that read them.
struct Provider {
    name: &'static str,
    host: &'static str,
    keys: &'static [&'static str],
    base_urls: &'static [&'static str],
    classes: &'static [&'static str],
    /// Arguments for the address and for the key.
    url_arguments: &'static [&'static str],
    key_arguments: &'static [&'static str],
    /// How its models' names begin, for `init_chat_model` without a provider.
    models: &'static [&'static str],
}

const PROVIDERS: [Provider; 2] = [
    Provider {
        name: "openai",
        host: "api.openai.com",
        keys: &["OPENAI_API_KEY"],
        base_urls: &["OPENAI_API_BASE", "OPENAI_BASE_URL"],
        classes: &["OpenAI", "AsyncOpenAI", "ChatOpenAI", "OpenAIEmbeddings", "BaseChatOpenAI"],
        url_arguments: &["base_url", "openai_api_base"],
        key_arguments: &["api_key", "openai_api_key"],
        models: &["gpt-", "o1", "o3", "o4", "chatgpt"],
    },
    Provider {
        name: "anthropic",
        host: "api.anthropic.com",
        keys: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        base_urls: &["ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"],
        classes: &["Anthropic", "AsyncAnthropic", "ChatAnthropic"],
        url_arguments: &["base_url", "anthropic_api_url"],
        key_arguments: &["api_key", "auth_token", "anthropic_api_key"],
        models: &["claude"],
    },
];

/// LangChain's functions that make a model of any provider.
const FACTORIES: [&str; 2] = ["init_chat_model", "init_embeddings"];

/// A call of another provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Where it stands in the text, in bytes.
    pub at: usize,
    /// What calls: a class, or a variable that is set.
    pub what: String,
    /// Whom.
    pub host: String,
    /// The variable whose value is the gateway's.
    pub key: &'static str,
    /// The variable that names another address to the gateway.
    pub base_url: &'static str,
}

/// The variables whose values are the gateway's in a replica, as long as the gateway is not switched off.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().flat_map(|provider| provider.keys).copied()
}

/// Whether a text may hold such a call: cheap, and right when it says no.
pub(super) fn may_call(text: &str) -> bool {
    let arguments = ["base_url", "api_base", "api_url", "_API_BASE", "_BASE_URL", "_API_URL"];
    text.contains("://") && arguments.iter().any(|word| text.contains(word))
}

/// All such calls of a module. `is_set` says which variables the agent's environment is known to have.
pub(super) fn calls(text: &str, is_set: impl Fn(&str) -> bool) -> Vec<Elsewhere> {
    let mut lines = Vec::new();
    scan(text, true, &mut lines);
    let module = Module { text, tokens: lines.iter().filter(|token| **token != Token::Line).collect(), lines: &lines };
    let mut found: Vec<Elsewhere> = Vec::new();
    for at in 0..module.tokens.len() {
        found.extend(module.call(at, &is_set).or_else(|| module.assignment(at)));
    }
    found
}

struct Module<'t> {
    text: &'t str,
    tokens: Vec<&'t Token<'t>>,
    lines: &'t [Token<'t>],
}

/// One argument of a call: its name, and what it is given.
struct Argument<'a, 't> {
    name: Option<&'t str>,
    value: &'a [&'t Token<'t>],
}

impl<'t> Module<'t> {
    fn call(&self, at: usize, is_set: &impl Fn(&str) -> bool) -> Option<Elsewhere> {
        let Token::Word(class) = self.tokens[at] else { return None };
        let before = at.checked_sub(1).map(|before| self.tokens[before]);
        if self.tokens.get(at + 1) != Some(&&Token::Sign('('))
            || matches!(before, Some(Token::Word("class" | "def" | "import")))
        {
            return None;
        }
        let is_factory = FACTORIES.contains(class);
        if !is_factory && !PROVIDERS.iter().any(|one| one.classes.contains(class)) {
            return None;
        }
        let arguments = self.arguments(at + 2);
        let provider = if is_factory {
            self.provider_of(&arguments)?
        } else {
            PROVIDERS.iter().find(|one| one.classes.contains(class))?
        };
        // What is unpacked may hold anything.
        if arguments.iter().any(|one| matches!(one.value, [Token::Sign('*'), Token::Sign('*'), ..])) {
            return None;
        }
        let named = |names: &[&str]| arguments.iter().find(|one| one.name.is_some_and(|name| names.contains(&name)));
        let url = named(provider.url_arguments)?;
        let host = self.foreign_host(url.value, provider)?;
        let names_url = |token: &&Token<'_>| matches!(token, Token::Text(name) if provider.base_urls.contains(name));
        if url.value.iter().find(|token| names_url(token)).is_some_and(|token| match token {
            Token::Text(name) => is_set(name),
            _ => false,
        }) {
            return None;
        }
        if let Some(key) = named(provider.key_arguments)
            && !self.is_key(key.value, provider)
        {
            return None;
        }
        Some(self.found(at, (*class).to_owned(), host, provider))
    }

    /// `os.environ["OPENAI_API_BASE"] = "https://…"`, `os.environ.setdefault(…)`, `openai.base_url = "https://…"`.
    fn assignment(&self, at: usize) -> Option<Elsewhere> {
        let after = |on: usize| self.tokens.get(at + on).copied();
        let (provider, what, value) = match self.tokens[at] {
            Token::Text(name) => {
                let provider = PROVIDERS.iter().find(|one| one.base_urls.contains(name))?;
                let is_set = after(1) == Some(&Token::Sign(']')) && after(2) == Some(&Token::Sign('='));
                let is_default =
                    at >= 2 && self.tokens[at - 2] == &Token::Word("setdefault") && after(1) == Some(&Token::Sign(','));
                let value = if is_set { after(3) } else { after(2).filter(|_| is_default) };
                (provider, (*name).to_owned(), value)
            }
            Token::Word(module) if after(1) == Some(&Token::Sign('.')) && after(3) == Some(&Token::Sign('=')) => {
                let provider = PROVIDERS.iter().find(|one| one.name == *module)?;
                let Some(Token::Word(attribute @ ("base_url" | "api_base"))) = after(2) else { return None };
                (provider, format!("{module}.{attribute}"), after(4))
            }
            _ => return None,
        };
        // Whoever sets the key as well has one of their own.
        let sets_key = self.tokens.windows(3).any(|three| {
            matches!(three, [Token::Text(name), Token::Sign(']' | ','), next] if provider.keys.contains(name)
                && matches!(next, Token::Sign('=') | Token::Text(_)))
        });
        let host = self.foreign_host(&[value?], provider)?;
        (!sets_key).then(|| self.found(at, what, host, provider))
    }

    fn found(&self, at: usize, what: String, host: String, provider: &Provider) -> Elsewhere {
        Elsewhere {
            at: place(self.text, self.tokens[at]),
            what,
            host,
            key: provider.keys[0],
            base_url: provider.base_urls[1],
        }
    }

    /// The arguments of a call, from behind its bracket on.
    fn arguments(&self, from: usize) -> Vec<Argument<'_, 't>> {
        let mut arguments = Vec::new();
        let (mut depth, mut begin) = (1, from);
        for at in from..self.tokens.len() {
            match self.tokens[at] {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth -= 1,
                Token::Sign(',') if depth == 1 => {
                    arguments.push(argument(&self.tokens[begin..at]));
                    begin = at + 1;
                }
                _ => {}
            }
            if depth == 0 {
                arguments.push(argument(&self.tokens[begin..at]));
                break;
            }
        }
        arguments
    }

    /// Whose model a factory makes, where the call says so.
    fn provider_of(&self, arguments: &[Argument<'_, 't>]) -> Option<&'static Provider> {
        let text = |value: &[&'t Token<'t>]| match value {
            [Token::Text(text)] => Some(*text),
            [Token::Word(name)] => self.assigned(name).and_then(|value| match value {
                [Token::Text(text)] => Some(*text),
                _ => None,
            }),
            _ => None,
        };
        let named = arguments.iter().find(|one| one.name == Some("model_provider")).map(|one| text(one.value));
        let model =
            arguments.iter().find(|one| matches!(one.name, None | Some("model"))).and_then(|one| text(one.value));
        match (named, model?.split_once(':')) {
            (Some(named), _) => PROVIDERS.iter().find(|one| Some(one.name) == named),
            (None, Some((named, _))) => PROVIDERS.iter().find(|one| one.name == named),
            (None, None) => PROVIDERS
                .iter()
                .find(|one| one.models.iter().any(|head| model.is_some_and(|model| model.starts_with(head)))),
        }
    }

    /// The host of the URL in a value, where it is another's than the provider's own.
    fn foreign_host(&self, value: &[&Token<'t>], provider: &Provider) -> Option<String> {
        let direct = value.iter().find_map(|token| match token {
            Token::Text(text) => host(text),
            _ => None,
        });
        let assigned = || match value {
            [Token::Word(name)] => self.assigned(name)?.iter().find_map(|token| match token {
                Token::Text(text) => host(text),
                _ => None,
            }),
            _ => None,
        };
        direct.or_else(assigned).filter(|host| host != provider.host && !is_here(host))
    }

    /// Whether a value is the provider's own variable: then the gateway's key is what it holds.
    fn is_key(&self, value: &[&Token<'t>], provider: &Provider) -> bool {
        let names_key = |token: &Token<'_>| matches!(token, Token::Text(name) if provider.keys.contains(name));
        let assigned = || match value {
            [Token::Word(name)] => self.assigned(name).is_some_and(|value| value.iter().any(names_key)),
            _ => false,
        };
        value.iter().any(|token| names_key(token)) || assigned()
    }

    /// What a name is given in the module, `NAME = …`, where that is done once.
    fn assigned(&self, name: &str) -> Option<&'t [Token<'t>]> {
        let lines = self.lines;
        let is_bound = |at: &usize| {
            let begins = *at == 0 || lines[at - 1] == Token::Line;
            begins && lines[*at] == Token::Word(name) && lines.get(at + 1) == Some(&Token::Sign('='))
        };
        let mut places = (0..lines.len()).filter(is_bound);
        let (place, None) = (places.next()?, places.next()) else { return None };
        let value = &lines[place + 2..];
        let end = value.iter().position(|token| *token == Token::Line).unwrap_or(value.len());
        Some(&value[..end])
    }
}

fn argument<'a, 't>(tokens: &'a [&'t Token<'t>]) -> Argument<'a, 't> {
    match tokens {
        [Token::Word(name), Token::Sign('='), value @ ..] if value.first() != Some(&&Token::Sign('=')) => {
            Argument { name: Some(name), value }
        }
        value => Argument { name: None, value },
    }
}

/// The host of an `http` or `https` address.
fn host(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    let is_plain = !host.is_empty() && host.chars().all(|one| one.is_ascii_alphanumeric() || ".-".contains(one));
    is_plain.then(|| host.to_ascii_lowercase())
}

/// Whether it is this machine: nothing answers there in a replica, whatever the key.
fn is_here(host: &str) -> bool {
    host == "localhost" || host == "0.0.0.0" || host.starts_with("127.") || host == "host.docker.internal"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        assert!(calls(text, |_| false).is_empty() || may_call(text), "{text}");
        calls(text, |_| false).into_iter().map(|one| (one.what, one.host)).collect()
    }

    #[test]
    fn another_provider_with_the_gateways_key_is_seen() {
        for (text, what) in [
            ("llm = ChatOpenAI(model='x', base_url=\"https://openrouter.ai/api/v1\")", "ChatOpenAI"),
            ("llm = ChatOpenAI(\n    openai_api_base='https://openrouter.ai/api/v1',\n)", "ChatOpenAI"),
            (
                "c = openai.AsyncOpenAI(base_url='https://openrouter.ai/v1', api_key=os.environ['OPENAI_API_KEY'])",
                "AsyncOpenAI",
            ),
            (
                "URL = 'https://openrouter.ai/v1'\nKEY = os.getenv('OPENAI_API_KEY')\nc = OpenAI(base_url=URL, api_key=KEY)",
                "OpenAI",
            ),
            ("c = OpenAI(base_url=os.getenv('OPENAI_BASE_URL', 'https://openrouter.ai/v1'))", "OpenAI"),
            ("m = init_chat_model('openai:gpt-4o', base_url='https://openrouter.ai/v1')", "init_chat_model"),
            ("m = init_chat_model(model='gpt-4o', base_url='https://openrouter.ai/v1')", "init_chat_model"),
            (
                "m = init_chat_model('x', model_provider='openai', base_url='https://openrouter.ai/v1')",
                "init_chat_model",
            ),
            ("os.environ['OPENAI_API_BASE'] = 'https://openrouter.ai/v1'", "OPENAI_API_BASE"),
            ("os.environ.setdefault('OPENAI_BASE_URL', 'https://openrouter.ai/v1')", "OPENAI_BASE_URL"),
            ("openai.base_url = 'https://openrouter.ai/v1'", "openai.base_url"),
            ("m = ChatAnthropic(base_url='https://openrouter.ai/')", "ChatAnthropic"),
        ] {
            assert_eq!(found(text), [(what.to_owned(), "openrouter.ai".to_owned())], "{text}");
        }
        let one = calls("\n\nx = ChatOpenAI(base_url='https://a.example')", |_| false).remove(0);
        assert_eq!((one.at, one.key, one.base_url), (6, "OPENAI_API_KEY", "OPENAI_BASE_URL"));
    }

    #[test]
    fn what_has_a_key_of_its_own_or_goes_to_the_provider_is_let_be() {
        for text in [
            "llm = ChatOpenAI(model='x')",
            "llm = ChatOpenAI(base_url='https://api.openai.com/v1')",
            "llm = ChatOpenAI(base_url='http://localhost:11434/v1')",
            "llm = ChatOpenAI(base_url='https://openrouter.ai/v1', api_key=os.environ['OPENROUTER_API_KEY'])",
            "llm = ChatOpenAI(base_url='https://openrouter.ai/v1', api_key=settings.key)",
            "llm = ChatOpenAI(base_url=settings.url)",
            "llm = ChatOpenAI(**{'base_url': 'https://openrouter.ai/v1'})",
            "llm = ChatOpenAI(base_url='https://openrouter.ai/v1', **options)",
            "llm = AzureChatOpenAI(base_url='https://x.openai.azure.com')",
            "llm = AzureChatOpenAI(azure_endpoint='https://x.openai.azure.com')",
            "c = httpx.AsyncClient(base_url='https://openrouter.ai')",
            "c = OpenAI(http_client=httpx.Client(base_url='https://openrouter.ai'))",
            "c = requests.get('https://openrouter.ai/base_url')",
            "m = init_chat_model('deepseek:deepseek-chat', base_url='https://openrouter.ai/v1')",
            "m = init_chat_model(name, base_url='https://openrouter.ai/v1')",
            "# ChatOpenAI(base_url='https://openrouter.ai/v1')",
            "'''ChatOpenAI(base_url=\"https://openrouter.ai/v1\")'''",
            "class ChatOpenAI(Base, base_url='https://openrouter.ai'): ...",
            "os.environ['OPENAI_API_KEY'] = key\nos.environ['OPENAI_API_BASE'] = 'https://openrouter.ai/v1'",
            "if os.environ['OPENAI_API_BASE'] == 'https://openrouter.ai/v1': pass",
            "ChatOpenAI(base_url='https://openrouter.ai",
        ] {
            let broken = text.ends_with("openrouter.ai");
            assert!(found(text).is_empty() || broken, "{text}: {:?}", found(text));
        }
        let named = "c = OpenAI(base_url=os.getenv('OPENAI_BASE_URL', 'https://openrouter.ai/v1'))";
        assert_eq!(calls(named, |name| name == "OPENAI_BASE_URL"), []);
    }
}
