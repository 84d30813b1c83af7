//! What it means that a manifest asks for something that this version does not carry out.

/// By the key, dotted in the section (`observability.otel`) or LangGraph's own (`auth`): what happens instead.
pub fn consequence(key: &str) -> &'static str {
    match key {
        "max_replicas" | "scaling_metric" | "target_value" => "there is no autoscaler: `min_replicas` run",
        "limits.tokens_per_run" | "limits.cost_per_run" | "limits.cost_per_day" => {
            "no run is stopped for what it spends"
        }
        "limits.messages" | "limits.rate" | "limits.tools" => "no run is refused or stopped for it",
        "observability.otel" | "observability.otlp_endpoint" => "no span is sent",
        "security.public" => "callers need a key all the same",
        "models.prices" => "costs are counted by the known prices",
        "rollout.rehearse_threads" => "a rollout moves traffic without trying threads first",
        "auth" => "its handlers do not run: whoever has a key of the agent is let in, as anybody",
        "http" => "its routes and middleware are not served: they answer 404",
        "store" => "`runtime.store` is None unless the graph is compiled with a store of its own",
        "checkpointer" => "checkpoints are kept as `rapidclaw.checkpointer` says",
        "encryption" => "state is stored as it is",
        "priority" => "runs begin in the order in which they came",
        "webhooks" => "no webhook is called",
        "ui" | "ui_config" => "no page of it is served",
        "api_version" => "`/v1/chat` is served, and LangGraph's own API is not",
        "image_distro" => "the image is built on Debian",
        _ if key.starts_with("checkpoints.") => "checkpoints stay until their thread or agent goes",
        _ if key.starts_with("graphs.") => "JavaScript cannot be deployed",
        _ => "nothing comes of it",
    }
}
