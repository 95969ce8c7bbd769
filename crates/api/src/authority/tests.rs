use proptest::prelude::*;

use super::*;

/// The Huffman codes of RFC 7541 appendix B that these tests use: the character, its code, its length.
const CODES: [(u8, u32, usize); 14] = [
    (b's', 0b01000, 5),
    (b't', 0b01001, 5),
    (b'e', 0b00101, 5),
    (b'%', PERCENT, 6),
    (b'-', DASH, 6),
    (b'.', 0b01_0111, 6),
    (b'/', SLASH, 6),
    (b'p', 0b10_1011, 6),
    (b'r', 0b10_1100, 6),
    (b'u', 0b10_1101, 6),
    (b'y', 0b111_1010, 7),
    (b'x', 0b111_1001, 7),
    (b'F', 0b110_0010, 7),
    (b'X', 0b1111_1100, 8),
];

fn huffman(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for character in text {
        let (_, code, length) = CODES.iter().find(|(c, ..)| c == character).expect("a code of the table");
        bits.extend((0..*length).rev().map(|n| code >> n & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |value, &bit| value << 1 | u8::from(bit))).collect()
}

/// `:method POST` (indexed), a field with a literal name, `:authority`, and `:scheme http` (indexed).
fn request(head: u8, value: &[u8], is_huffman: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x40, 3, b'x', b'/', b'y', 2, b'/', b'%', head];
    block.push(u8::try_from(value.len()).expect("short") | if is_huffman { 0x80 } else { 0 });
    block.extend(value);
    block.push(0x86);
    let length = u8::try_from(block.len()).expect("short");
    let mut frames = vec![b'P'; PREFACE];
    // SETTINGS without content, a PRIORITY-flagged HEADERS, then DATA that must stay as it is.
    frames.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    frames.extend([0, 0, length + 5, HEADERS, PRIORITY | 4, 0, 0, 0, 1, 0, 0, 0, 0, 16]);
    frames.extend(block);
    frames.extend([0, 0, 3, 0, 1, 0, 0, 0, 1, b'/', 0x41, b'%']);
    frames
}

fn amended(mut bytes: Vec<u8>) -> Vec<u8> {
    Frames { skip: PREFACE }.amend(&mut bytes);
    bytes
}

#[test]
fn a_path_becomes_an_authority_and_nothing_else_changes() {
    for head in [0x41, 0x01, 0x11] {
        assert_eq!(
            amended(request(head, b"/run/s.sock", false)),
            request(head, b"-run-s.sock", false),
            "plain, {head:#x}"
        );
        assert_eq!(
            amended(request(head, &huffman(b"/e%Fs/steppe/xyX.pr/"), true)),
            request(head, &huffman(b"-e-Fs-steppe-xyX.pr-"), true),
            "Huffman, {head:#x}"
        );
    }
}

#[test]
fn frames_are_followed_over_several_reads() {
    let mut bytes = request(0x41, b"/a", false);
    let mut frames = Frames { skip: PREFACE };
    let (first, rest) = bytes.split_at_mut(10);
    let (second, third) = rest.split_at_mut(PREFACE - 10 + 9);
    frames.amend(first);
    frames.amend(second);
    frames.amend(third);
    assert_eq!(bytes, request(0x41, b"-a", false));
}

proptest! {
    #[test]
    fn any_text_of_known_codes_keeps_its_length(text in prop::collection::vec(prop::sample::select(
        CODES.iter().map(|(c, ..)| *c).collect::<Vec<_>>()), 0..60)) {
        let mut coded = huffman(&text);
        amend_huffman(&mut coded);
        let dashed: Vec<u8> = text.iter().map(|c| if matches!(c, b'/' | b'%') { b'-' } else { *c }).collect();
        prop_assert_eq!(coded, huffman(&dashed));
    }

    #[test]
    fn nonsense_does_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let length = bytes.len();
        Frames { skip: 0 }.amend(&mut bytes);
        prop_assert_eq!(bytes.len(), length);
    }
}
