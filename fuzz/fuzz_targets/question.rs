//! What an asker may send to dns.

#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| steppe_dns::fuzz::question(packet));
