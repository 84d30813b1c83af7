//! rapidclaw
