//! The byte-level BPE alphabet: every byte as one printable character. Printable Latin-1 stands for itself; the other
//! 68 bytes follow, in order, from U+0100.

/// The byte a character of the alphabet stands for.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let n = c as u32;
    let byte = match n {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => n,
        0x100..=0x120 => n - 0x100,
        0x121..=0x142 => n - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Appends the bytes a token stands for; a token with any character outside the alphabet stands for its own UTF-8.
pub(super) fn append_bytes(token: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in token.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn covers_every_byte_once() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        for (c, byte) in [('Ġ', b' '), ('Ċ', b'\n'), ('ł', 0xa0), ('Ń', 0xad), ('ÿ', 0xff)] {
            assert_eq!(byte_of(c), Some(byte), "{c}");
        }
        assert_eq!((byte_of(' '), byte_of('ń'), byte_of('語')), (None, None, None));
    }

    #[test]
    fn text_outside_the_alphabet_stays_as_it_is() {
        let mut out = b"x".to_vec();
        append_bytes("Ġa", &mut out);
        append_bytes("Ġa b", &mut out);
        assert_eq!(out, "x aĠa b".as_bytes());
    }
}
