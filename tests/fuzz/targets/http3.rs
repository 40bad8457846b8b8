//! The field sections of a request stream of HTTP/3.

use enforcer_codec::h3::Sections;

use super::{Target, pieces};

pub(super) const SECTIONS: Target = Target { name: "h3_sections", run: sections, seeds, words: WORDS };

const WORDS: &[&str] = &[
    "\u{1}\u{4}\0\0\u{d1}\u{c1}",
    "\0\u{1}x",
    "\u{21}\u{1}x",
    "\u{50}\u{1}a",
    "\u{51}\u{2}/#",
    "\u{d1}",
    "\u{d7}",
    "\u{c1}",
    "\u{d9}",
    "\u{25}:path\u{1}/",
    "\u{21}x\u{1}y",
    "\u{40}",
    "\u{80}\0\0\u{ff}",
    "\u{ff}\u{ff}\u{7f}",
];

fn seeds() -> Vec<Vec<u8>> {
    let request = [0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];
    let frame = |more: &[u8]| {
        let section = [&request[..], more].concat();
        [&[1, u8::try_from(section.len()).unwrap_or_default()][..], &section, b"\0\x02hi\x01\x02\0\0"]
            .concat()
    };
    vec![frame(&[]), frame(&[0xd9]), frame(&[0x21, b'x', 1, b'y']), frame(&[0x51, 2, b'/', b'#'])]
}

/// However it is cut, one reading.
fn sections(input: &[u8]) -> String {
    let look =
        |mut sections: Sections, parts: &[&[u8]]| parts.iter().try_for_each(|part| sections.look(part));
    let whole = [look(Sections::of_request(), &[input]), look(Sections::of_answer(), &[input])];
    let parts = pieces(input);
    let cut = [look(Sections::of_request(), &parts), look(Sections::of_answer(), &parts)];
    assert_eq!(whole, cut, "another reading when it comes in pieces");
    format!("{whole:?}")
}
