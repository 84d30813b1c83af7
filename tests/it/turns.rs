//! What a turn of /v1/chat means: resume, interrupts, context, input, identity, idempotency.
