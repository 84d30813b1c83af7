//! A replica's container: deny by default (`facts/docker.md` 5 and 10).

use super::replicas::label;
use crate::runtime::ReplicaSpec;
use crate::runtime::folders::{REPLICA_SIDE, REPLICA_UID, SERVER_SIDE};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use std::collections::HashMap;
use uuid::Uuid;

/// Processes and threads a replica may have.
const PIDS: i64 = 1024;
/// Its own name.
const HOSTNAME: &str = "replica";
/// Size of its `/tmp`.
const TMPFS_BYTES: u64 = 512 << 20;
/// The system calls that it may make; the engine's own profile depends on its age. Of the kernel's list all but what
/// administers the machine, looks into other processes, makes namespaces, or is young and large (`io_uring`, bpf,
/// userfaultfd, keyrings); sockets of four families; none of another processor's.
const SECCOMP: &str = include_str!("seccomp.json");
/// Its log: what `logs` and the last lines of a crash are read from.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";

/// What the engine is asked for. No secret is in it: those come by the mounted folder.
pub fn container(spec: &ReplicaSpec, server: Uuid, network: Option<&str>) -> ContainerCreateBody {
    let user = format!("{REPLICA_UID}:{REPLICA_UID}");
    let memory = i64::try_from(spec.memory_bytes).unwrap_or(i64::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "the manifest's rules bound it")]
    let nano_cpus = (spec.cpu * 1e9) as i64;
    let mount = |source: &std::path::Path, target: &str, read_only| Mount {
        target: Some(target.to_owned()),
        source: Some(source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let host = HostConfig {
        network_mode: Some(network.unwrap_or("none").to_owned()),
        // Without this the embedded resolver passes queries on, even with no network to speak of.
        dns: network.is_none().then(|| vec!["127.0.0.1".to_owned()]),
        extra_hosts: Some(hosts(spec, network.is_some())),
        readonly_rootfs: Some(true),
        tmpfs: Some(HashMap::from([(
            "/tmp".to_owned(),
            format!("rw,nosuid,nodev,noexec,size={TMPFS_BYTES},mode=1777"),
        )])),
        mounts: Some(vec![
            mount(&spec.folders.server, SERVER_SIDE, true),
            mount(&spec.folders.replica, REPLICA_SIDE, false),
        ]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned(), format!("seccomp={SECCOMP}")]),
        pids_limit: Some(PIDS),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        ulimits: Some(vec![ResourcesUlimits { name: Some("core".to_owned()), soft: Some(0), hard: Some(0) }]),
        init: Some(true),
        // Where the engine gives containers other users (userns-remap), this one's are the machine's all the same: the
        // gateway knows the replica by its user.
        userns_mode: Some("host".to_owned()),
        // The server starts replicas itself: it has to lay in their secrets first.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_SIZE.to_owned()),
                ("max-file".to_owned(), LOG_FILES.to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        user: Some(user),
        hostname: Some(HOSTNAME.to_owned()),
        labels: Some(HashMap::from([
            (label::SERVER.to_owned(), server.to_string()),
            (label::AGENT.to_owned(), spec.agent.clone()),
            (label::RELEASE.to_owned(), spec.release.to_string()),
            (label::ROLLOUT.to_owned(), spec.rollout.to_string()),
            (label::REPLICA.to_owned(), spec.id.to_string()),
            (label::VERSION.to_owned(), spec.version.to_string()),
        ])),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// Without a network nobody tells the replica the address of its own name, which libraries ask for at start.
fn hosts(spec: &ReplicaSpec, has_network: bool) -> Vec<String> {
    let own = (!has_network).then(|| format!("{HOSTNAME}:127.0.0.1"));
    own.into_iter().chain(spec.hosts.iter().map(|(name, address)| format!("{name}:{address}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ReplicaFolders;

    fn spec() -> ReplicaSpec {
        ReplicaSpec {
            id: Uuid::nil(),
            agent: "agent".into(),
            release: Uuid::nil(),
            version: 1,
            rollout: Uuid::nil(),
            image: "sha256:0".into(),
            cpu: 0.5,
            memory_bytes: 1 << 30,
            open_network: false,
            hosts: vec![("api.example.com".into(), "127.0.0.2".parse().unwrap())],
            folders: ReplicaFolders { server: "/r/s".into(), replica: "/r/r".into() },
        }
    }

    #[test]
    fn a_replica_has_no_network_no_rights_and_no_environment() {
        let body = container(&spec(), Uuid::nil(), None);
        let host = body.host_config.unwrap();
        assert_eq!(body.user.as_deref(), Some("10001:10001"));
        assert_eq!(body.env, None);
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.dns, Some(vec!["127.0.0.1".to_owned()]));
        let hosts = ["replica:127.0.0.1".to_owned(), "api.example.com:127.0.0.2".to_owned()];
        assert_eq!(host.extra_hosts, Some(hosts.to_vec()));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        let profile = host.security_opt.unwrap();
        let profile: serde_json::Value = serde_json::from_str(profile[1].strip_prefix("seccomp=").unwrap()).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed = profile["syscalls"][0]["names"].as_array().unwrap();
        assert!(allowed.iter().any(|name| name == "read"));
        for refused in ["io_uring_setup", "bpf", "keyctl", "userfaultfd", "mount", "unshare", "ptrace", "socket"] {
            assert!(allowed.iter().all(|name| name != refused), "{refused}");
        }
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.memory, host.memory_swap);
        let mounts = host.mounts.unwrap();
        assert_eq!(mounts[0].read_only, Some(true));
        assert_eq!(mounts[1].read_only, Some(false));
    }
}
