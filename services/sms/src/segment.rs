//! Texts into the parts that the radio carries: GSM 7-bit (3GPP TS 23.038) or UCS-2, exactly counted.
//!
//! A part has 140 octets: 160 septets or 70 UTF-16 units; one of several loses 6 octets to the concatenation header
//! (3GPP TS 23.040, 8-bit reference): 153 septets or 67 units. A character of the extension table takes two septets
//! and is never split over parts; nor is a surrogate pair.

use crate::limits::SMS_PARTS;

/// Septets of a single part.
const GSM_ONE: usize = 160;
/// Septets of one part of several.
const GSM_PART: usize = 153;
/// UTF-16 units of a single part.
const UCS2_ONE: usize = 70;
/// UTF-16 units of one part of several.
const UCS2_PART: usize = 67;
/// Escapes to the extension table.
const ESCAPE: u8 = 0x1b;
/// Information elements (3GPP TS 23.040, 9.2.3.24) that say a part's place, with an 8-bit and a 16-bit reference.
const PLACE_8: u8 = 0;
const PLACE_16: u8 = 8;

/// The default alphabet, by code (3GPP TS 23.038, 6.2.1).
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', 'Δ', '_', 'Φ', 'Γ',
    'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1b}', 'Æ', 'æ', 'ß', 'É', ' ', '!', '"', '#', '¤', '%', '&', '\'',
    '(', ')', '*', '+', ',', '-', '.', '/', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<',
    '=', '>', '?', '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q',
    'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§', '¿', 'a', 'b', 'c', 'd', 'e', 'f',
    'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä',
    'ö', 'ñ', 'ü', 'à',
];
/// The extension table (6.2.1.1).
const EXTENSION: [(u8, char); 10] = [
    (0x0a, '\u{0c}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2f, '\\'),
    (0x3c, '['),
    (0x3d, '~'),
    (0x3e, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// How a text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 7 bits a character; over SMPP one octet each, unpacked.
    Gsm7,
    /// UTF-16, big endian.
    Ucs2,
}

impl Encoding {
    /// As quotes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }
}

/// A part among several: reference, total, place.
pub type Place = (u16, u8, u8);

/// A text in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// How all parts are encoded.
    pub encoding: Encoding,
    /// The parts, without headers.
    pub parts: Vec<Vec<u8>>,
}

fn gsm7(c: char) -> Option<([u8; 2], usize)> {
    if c != '\u{1b}'
        && let Some(code) = DEFAULT.iter().position(|known| *known == c)
    {
        return Some(([u8::try_from(code).ok()?, 0], 1));
    }
    EXTENSION.iter().find(|(_, known)| *known == c).map(|(code, _)| ([ESCAPE, *code], 2))
}

/// Puts units that must stay together into parts of at most `most`, or into one of at most `one`.
fn pack<T: Copy>(units: &[Vec<T>], one: usize, most: usize) -> Vec<Vec<T>> {
    if units.iter().map(Vec::len).sum::<usize>() <= one {
        return vec![units.concat()];
    }
    let mut parts = vec![Vec::new()];
    for unit in units {
        if parts.last().is_some_and(|part: &Vec<T>| part.len() + unit.len() > most) {
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend_from_slice(unit);
        }
    }
    parts
}

/// Cuts a text into parts; `None` if it needs more than [`SMS_PARTS`].
pub fn segment(text: &str) -> Option<Segments> {
    let septets: Option<Vec<Vec<u8>>> =
        text.chars().map(|c| gsm7(c).map(|(codes, length)| codes[..length].to_vec())).collect();
    let segments = if let Some(septets) = septets {
        Segments { encoding: Encoding::Gsm7, parts: pack(&septets, GSM_ONE, GSM_PART) }
    } else {
        let units: Vec<Vec<u16>> = text.chars().map(|c| c.encode_utf16(&mut [0; 2]).to_vec()).collect();
        let parts = pack(&units, UCS2_ONE, UCS2_PART);
        let octets = |part: Vec<u16>| part.into_iter().flat_map(u16::to_be_bytes).collect();
        Segments { encoding: Encoding::Ucs2, parts: parts.into_iter().map(octets).collect() }
    };
    (segments.parts.len() <= SMS_PARTS).then_some(segments)
}

/// Puts encoded octets back into text; what no table has becomes U+FFFD.
pub fn text(encoding: Encoding, octets: &[u8]) -> String {
    match encoding {
        Encoding::Ucs2 => {
            let units: Vec<u16> =
                octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        Encoding::Gsm7 => {
            let mut text = String::new();
            let mut codes = octets.iter();
            while let Some(code) = codes.next() {
                text.push(if *code == ESCAPE {
                    let extended =
                        codes.next().and_then(|code| EXTENSION.iter().find(|(known, _)| known == code));
                    extended.map_or('\u{fffd}', |(_, c)| *c)
                } else {
                    DEFAULT.get(usize::from(*code)).copied().unwrap_or('\u{fffd}')
                });
            }
            text
        }
    }
}

/// The concatenation header of one part (3GPP TS 23.040, 9.2.3.24.1), with its length octet.
pub fn header((reference, total, place): Place) -> Vec<u8> {
    match u8::try_from(reference) {
        Ok(reference) => vec![5, PLACE_8, 3, reference, total, place],
        Err(_) => [&[6, PLACE_16, 4][..], &reference.to_be_bytes(), &[total, place]].concat(),
    }
}

/// A part's place among several, if its user data header says one that can be, and what stands behind the header.
/// Elements of other kinds are skipped; a header longer than the part is none.
pub fn split_header(octets: &[u8]) -> (Option<Place>, &[u8]) {
    let header = octets.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let Some((mut elements, content)) = header else { return (None, octets) };
    let mut place = None;
    while let [kind, length, rest @ ..] = elements {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        match (*kind, value) {
            (PLACE_8, [reference, total, of]) => place = Some((u16::from(*reference), *total, *of)),
            (PLACE_16, [high, low, total, of]) => {
                place = Some((u16::from_be_bytes([*high, *low]), *total, *of));
            }
            _ => {}
        }
        elements = rest;
    }
    (place.filter(|(_, total, of)| (1..=*total).contains(of)), content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (Encoding, usize) {
        let segments = segment(text).expect("fits");
        (segments.encoding, segments.parts.len())
    }

    #[test]
    fn counts_at_the_edges() {
        for (length, expected) in [(0, 1), (1, 1), (160, 1), (161, 2), (306, 2), (307, 3), (1_530, 10)] {
            assert_eq!(parts(&"a".repeat(length)), (Encoding::Gsm7, expected), "{length} septets");
        }
        for (length, expected) in [(1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (670, 10)] {
            assert_eq!(parts(&"你".repeat(length)), (Encoding::Ucs2, expected), "{length} units");
        }
        for n in 2..=SMS_PARTS {
            assert_eq!(parts(&"a".repeat(153 * n)), (Encoding::Gsm7, n), "{n} full parts");
            assert_eq!(parts(&"你".repeat(67 * n)), (Encoding::Ucs2, n), "{n} full parts");
        }
        assert_eq!(segment(&"a".repeat(1_531)), None, "an eleventh part");
        assert_eq!(segment(&"你".repeat(671)), None, "an eleventh part");
    }

    #[test]
    fn the_extension_table_counts_twice_and_emoji_are_two_units() {
        assert_eq!(parts(&"€".repeat(80)), (Encoding::Gsm7, 1));
        assert_eq!(parts(&"€".repeat(81)), (Encoding::Gsm7, 2));
        assert_eq!(parts(&format!("{}€", "a".repeat(158))), (Encoding::Gsm7, 1));
        assert_eq!(parts(&format!("{}€", "a".repeat(159))), (Encoding::Gsm7, 2));
        // 76 to a part: the 77th would be cut at 153.
        assert_eq!(parts(&"€".repeat(152)), (Encoding::Gsm7, 2));
        assert_eq!(parts(&"€".repeat(153)), (Encoding::Gsm7, 3));
        assert_eq!(parts(&"😀".repeat(35)), (Encoding::Ucs2, 1));
        assert_eq!(parts(&"😀".repeat(36)), (Encoding::Ucs2, 2));
        // 33 to a part: the 34th would be cut at 67.
        assert_eq!(parts(&"😀".repeat(66)), (Encoding::Ucs2, 2));
        assert_eq!(parts(&"😀".repeat(67)), (Encoding::Ucs2, 3));
        assert_eq!(parts(&format!("{}😀", "a".repeat(69))), (Encoding::Ucs2, 2), "one emoji makes all UCS-2");
    }

    #[test]
    fn every_character_of_the_tables_is_gsm_and_comes_back() {
        let all = || DEFAULT.into_iter().chain(EXTENSION.map(|(_, c)| c)).filter(|c| *c != '\u{1b}');
        for c in all() {
            let segments = segment(&c.to_string()).expect("fits");
            assert_eq!(segments.encoding, Encoding::Gsm7, "{c}");
            assert_eq!(text(Encoding::Gsm7, &segments.parts[0]), c.to_string());
        }
        assert_eq!(all().count(), 137);
        for outside in ["ç", "`", "\t", "\u{1b}", "–"] {
            assert_eq!(parts(outside), (Encoding::Ucs2, 1), "{outside:?}");
        }
        assert_eq!(text(Encoding::Gsm7, &[b'a', 0x1b, 0x01, 0x80, 0x1b]), "a\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_stands_together_stays_together() {
        let extended = format!("{}€{}", "a".repeat(152), "b".repeat(20));
        let segments = segment(&extended).expect("fits");
        assert_eq!(segments.parts[0].len(), 152, "the escape moves to the next part with its character");
        let emoji = format!("{}😀{}", "你".repeat(66), "好".repeat(10));
        assert_eq!(segment(&emoji).expect("fits").parts[0].len(), 132, "the pair moves whole");
    }

    #[test]
    fn headers_are_read_back_whatever_else_is_in_them() {
        for place in [(7, 3, 2), (255, 255, 255), (256, 3, 2), (u16::MAX, 2, 1)] {
            let part = [&header(place)[..], b"rest"].concat();
            assert_eq!(split_header(&part), (Some(place), &b"rest"[..]));
        }
        // A port before it, as some phones write it.
        let ports = [11, 5, 4, 1, 2, 3, 4, 0, 3, 9, 2, 1, b'x'];
        assert_eq!(split_header(&ports), (Some((9, 2, 1)), &b"x"[..]));
        assert_eq!(split_header(&[5, 0, 3, 1, 2, 9, b'x']), (None, &b"x"[..]), "no ninth of two");
        assert_eq!(split_header(&[5, 0, 3, 1, 0, 0, b'x']), (None, &b"x"[..]), "nothing of none");
        assert_eq!(split_header(&[200, 0, 3, 1]), (None, &[200, 0, 3, 1][..]), "no header at all");
        assert_eq!(split_header(&[]), (None, &[][..]));
    }

    /// Texts of both encodings, up to about twelve parts.
    fn texts() -> impl Strategy<Value = String> {
        let gsm = "[a-zA-Z0-9 €{}~äöüñ@\\[\\]]{0,1600}";
        prop_oneof![gsm, "[a-zA-Z0-9 €{}~äöüñ@\\[\\]你好😀]{0,400}", any::<String>()]
    }

    proptest! {
        #[test]
        fn parts_fit_stand_alone_and_add_up(content in texts()) {
            let Some(segments) = segment(&content) else {
                prop_assert!(content.chars().count() > 300, "ten parts hold that much");
                return Ok(());
            };
            let several = segments.parts.len() > 1;
            let most = match (segments.encoding, several) {
                (Encoding::Gsm7, false) => GSM_ONE,
                (Encoding::Gsm7, true) => GSM_PART,
                (Encoding::Ucs2, false) => 2 * UCS2_ONE,
                (Encoding::Ucs2, true) => 2 * UCS2_PART,
            };
            prop_assert!(segments.parts.iter().all(|part| part.len() <= most));
            // Read one by one: nothing was cut within a character.
            let together: String = segments.parts.iter().map(|part| text(segments.encoding, part)).collect();
            prop_assert_eq!(&together, &content);
            prop_assert_eq!(text(segments.encoding, &segments.parts.concat()), content);
        }

        #[test]
        fn any_octets_are_some_text(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let (_, rest) = split_header(&octets);
            prop_assert!(octets.ends_with(rest));
            text(Encoding::Gsm7, rest);
            text(Encoding::Ucs2, rest);
        }
    }
}
