//! Several byte strings as one, each after its length.

/// Joins them. Each is at most 4 GiB long, which the bounds on what is kept stay far below.
pub(super) fn pack(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Takes exactly `N` of them apart; `None` for anything that [`pack`] did not make of so many.
pub(super) fn unpack<const N: usize>(mut text: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = [&[][..]; N];
    for part in &mut parts {
        let (length, rest) = text.split_first_chunk::<4>()?;
        (*part, text) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    }
    text.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_apart_as_they_were_joined() {
        let packed = pack(&[b"a", b"", b"ccc"]);
        assert_eq!(unpack::<3>(&packed), Some([&b"a"[..], b"", b"ccc"]));
        assert_eq!(unpack::<2>(&packed), None);
        assert_eq!(unpack::<4>(&packed), None);
    }

    #[test]
    fn no_text_makes_it_fail_otherwise_than_by_saying_so() {
        let packed = pack(&[b"a", b"bb"]);
        for end in 0..packed.len() {
            assert_eq!(unpack::<2>(&packed[..end]), None, "{end}");
        }
        assert_eq!(unpack::<1>(&[0xff; 64]), None);
        assert_eq!(unpack::<0>(b""), Some([]));
    }
}
