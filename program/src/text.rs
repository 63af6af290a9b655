//! What an id and a TensorUri may look like. What passes is ASCII.

const MAX_ID_LENGTH: usize = 64;
const MAX_URI_BYTES: usize = 400;

/// At most this many URIs in a list.
pub const MAX_URIS: usize = 8;

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// 1 to 64 of `A-Z a-z 0-9 . _ -`, the first no dot.
pub fn is_id(text: &[u8]) -> bool {
    text.len() <= MAX_ID_LENGTH
        && text.first().is_some_and(|first| *first != b'.')
        && text.iter().all(|byte| is_word(*byte))
}

/// `s3://bucket/key` or `file:///path`, with or without `#name` or `#*`.
pub fn is_uri(text: &[u8]) -> bool {
    if text.len() > MAX_URI_BYTES {
        return false;
    }
    let (place, begins_with_bucket) = if let Some(place) = text.strip_prefix(b"s3://") {
        (place, true)
    } else if let Some(place) = text.strip_prefix(b"file:///") {
        (place, false)
    } else {
        return false;
    };
    let mut parts = place.splitn(2, |byte| *byte == b'#');
    let path = parts.next().unwrap_or_default();
    is_path(path) && (!begins_with_bucket || path.contains(&b'/')) && parts.next().is_none_or(is_fragment)
}

pub fn names_all_tensors(uri: &[u8]) -> bool {
    uri.ends_with(b"#*")
}

fn is_path(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/')
        .all(|segment| !matches!(segment, b"" | b"." | b"..") && segment.iter().all(|byte| is_word(*byte)))
}

fn is_fragment(fragment: &[u8]) -> bool {
    fragment == b"*" || (!fragment.is_empty() && fragment.iter().all(|byte| is_word(*byte) || *byte == b'/'))
}
