//! First bytes of strangers: TLS client hellos, CONNECT requests, Postgres startup packets.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::network(input));
