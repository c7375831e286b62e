//! How many keys a device has left on the server.
//! <https://spec.matrix.org/v1.19/client-server-api/#e2e-extensions-to-sync>

use event::json;
use users::keys::one_time::Counts;

/// Appends `device_one_time_keys_count`.
pub fn write_one_time(out: &mut Vec<u8>, counts: &Counts) {
    out.push(b'{');
    for (n, (algorithm, count)) in counts.one_time.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, algorithm);
        out.extend_from_slice(format!(":{count}").as_bytes());
    }
    out.push(b'}');
}

/// Appends `device_unused_fallback_key_types`.
pub fn write_unused_fallback(out: &mut Vec<u8>, counts: &Counts) {
    out.push(b'[');
    for (n, algorithm) in counts.unused_fallback.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, algorithm);
    }
    out.push(b']');
}
