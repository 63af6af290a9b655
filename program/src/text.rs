//! What an id and a TensorUri may look like. What passes is ASCII.

const MAX_ID_LENGTH: usize = 64;
const MAX_URI_BYTES: usize = 400;

/// At most this many URIs in a list.
pub const MAX_URIS: usize = 8;

/// Whether a byte is one of `A-Z a-z 0-9 . _ -`. A table, since each byte of each URI is looked up.
const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        byte += 1;
    }
    table
};

fn is_word(byte: u8) -> bool {
    WORD[byte as usize]
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
        false
    } else if let Some(place) = text.strip_prefix(b"s3://") {
        is_place(place, true)
    } else if let Some(place) = text.strip_prefix(b"file:///") {
        is_place(place, false)
    } else {
        false
    }
}

pub fn names_all_tensors(uri: &[u8]) -> bool {
    uri.ends_with(b"#*")
}

/// Segments, then perhaps a fragment; each byte is looked at once. A bucket is a segment that others follow.
fn is_place(place: &[u8], begins_with_bucket: bool) -> bool {
    let mut needs_another = begins_with_bucket;
    let mut segment = 0;
    let mut next: usize = 0;
    while let Some(byte) = place.get(next) {
        let at = next;
        // At most MAX_URI_BYTES; a checked sum would leave a path to a panic.
        next = at.wrapping_add(1);
        if is_word(*byte) {
            continue;
        }
        if !is_segment(place.get(segment..at)) {
            return false;
        }
        segment = next;
        match byte {
            b'/' => needs_another = false,
            b'#' => return !needs_another && is_fragment(place.get(segment..).unwrap_or_default()),
            _ => return false,
        }
    }
    !needs_another && is_segment(place.get(segment..))
}

fn is_segment(segment: Option<&[u8]>) -> bool {
    !matches!(segment, None | Some(b"" | b"." | b".."))
}

fn is_fragment(fragment: &[u8]) -> bool {
    fragment == b"*" || (!fragment.is_empty() && fragment.iter().all(|byte| is_word(*byte) || *byte == b'/'))
}
