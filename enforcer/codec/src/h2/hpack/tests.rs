//! RFC 7541 appendix C, and the properties of both sides together.

use proptest::prelude::*;

use super::*;
use crate::Limits;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, NotHpack> {
    let mut lines = Lines::default();
    decoder.decode(block, &Limits::default(), &mut lines)?;
    for field in &lines.fields {
        let (start, end) = (field.name.start as usize, field.value.end() as usize);
        let line = [field.name.of(&lines.bytes), b": ", field.value.of(&lines.bytes), b"\r\n"].concat();
        assert_eq!(lines.bytes[start..end + 2], line, "in printed form");
    }
    let pair = |field: &crate::fields::Field| {
        (field.name.of(&lines.bytes).to_vec(), field.value.of(&lines.bytes).to_vec())
    };
    Ok(lines.fields.iter().map(pair).collect())
}

fn pairs(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// C.3 and C.4: three requests on one connection, plain and in Huffman code.
#[test]
fn rfc_7541_c3_and_c4_requests_are_decoded() {
    let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    let second = [first.as_slice(), &[("cache-control", "no-cache")]].concat();
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    for blocks in [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ] {
        let mut decoder = Decoder::new();
        for (block, fields) in blocks.iter().zip([&first[..], &second, &third]) {
            assert_eq!(decoded(&mut decoder, &hex(block)).unwrap(), pairs(fields));
        }
    }
}

/// C.6: answers in Huffman code with a table of 256 octets, which evicts.
#[test]
fn rfc_7541_c6_answers_evict_from_a_small_table() {
    let mut decoder = Decoder::new();
    let sized = [integer_of(0x20, 5, 256), hex(
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    )]
    .concat();
    let common = |status, date| {
        pairs(&[
            (":status", status),
            ("cache-control", "private"),
            ("date", date),
            ("location", "https://www.example.com"),
        ])
    };
    assert_eq!(decoded(&mut decoder, &sized).unwrap(), common("302", "Mon, 21 Oct 2013 20:13:21 GMT"));
    let second = hex("4883640effc1c0bf");
    assert_eq!(decoded(&mut decoder, &second).unwrap(), common("307", "Mon, 21 Oct 2013 20:13:21 GMT"));
    let third = hex(
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    );
    let fields = decoded(&mut decoder, &third).unwrap();
    assert_eq!(fields[0], (b":status".to_vec(), b"200".to_vec()));
    assert_eq!(
        fields[5],
        (b"set-cookie".to_vec(), b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1".to_vec())
    );
}

fn integer_of(mark: u8, prefix: u32, value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer::put(mark, prefix, value, &mut out);
    out
}

/// C.1.
#[test]
fn rfc_7541_c1_integers() {
    assert_eq!(integer_of(0, 5, 10), [0x0a]);
    assert_eq!(integer_of(0, 5, 1337), [0x1f, 0x9a, 0x0a]);
    assert_eq!(integer_of(0, 8, 42), [0x2a]);
    for endless in [&[0xff; 6][..], &[0x80, 0x80, 0x80, 0x80, 0x00], &[]] {
        assert_eq!(integer::take(0x1f, 5, &mut &endless[..]), Err(NotHpack));
    }
}

#[test]
fn what_breaks_the_compression_is_refused() {
    for (name, block) in [
        ("index 0", hex("80")),
        ("an index beyond the table", hex("be")),
        ("a name beyond the table", hex("7f0001 61")),
        ("a string that ends early", hex("400a6375")),
        ("a string without a length", hex("41")),
        ("a table larger than ours", integer_of(0x20, 5, TABLE + 1)),
        ("a size after a field", [hex("82"), integer_of(0x20, 5, 0)].concat()),
        ("padding of eight bits", hex("4001 61 82 1fff".replace(' ', "").as_str())),
        ("padding with zeros", hex("400161 81 18".replace(' ', "").as_str())),
        ("the end of a string in a string", hex("400161 84 fffffffc".replace(' ', "").as_str())),
    ] {
        assert_eq!(decoded(&mut Decoder::new(), &block), Err(NotHpack), "{name}");
    }
}

#[test]
fn hv_02_a_block_beyond_the_limits_is_counted_and_not_kept() {
    let limits = Limits { fields: 10, ..Limits::default() };
    // One entry of 4,000 octets, called again and again by one octet.
    let mut bomb = hex("40 01 61".replace(' ', "").as_str());
    bomb.extend(integer_of(0, 7, 4000));
    bomb.extend([b'x'; 4000]);
    bomb.extend([0xbe; 100_000]);
    let mut lines = Lines::default();
    Decoder::new().decode(&bomb, &limits, &mut lines).unwrap();
    assert!(lines.is_bomb && lines.is_over);
    assert!(lines.bytes.len() <= limits.head, "{}", lines.bytes.len());
    // Many small ones: the state of the table lives on behind them.
    let mut decoder = Decoder::new();
    let many = [hex("400161016240016301 64".replace(' ', "").as_str()), vec![0xbe; 30]].concat();
    decoder.decode(&many, &limits, &mut lines).unwrap();
    assert!(lines.is_over && !lines.is_bomb);
    assert_eq!(decoded(&mut decoder, &hex("bebf")).unwrap(), pairs(&[("c", "d"), ("a", "b")]));
}

#[test]
fn fields_that_come_again_cost_one_octet_and_secrets_are_kept_nowhere() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let fields = [("server", "nginx"), ("content-type", "text/plain"), ("x-a", "1")];
    let mut first = Vec::new();
    for round in 0..2 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.status(200, &mut block);
        fields.iter().for_each(|(name, value)| encoder.field(name.as_bytes(), value.as_bytes(), &mut block));
        assert_eq!(decoded(&mut decoder, &block).unwrap()[1..], pairs(&fields), "{round}");
        match round {
            0 => first = block,
            _ => assert_eq!((block.len(), first.len() > 20), (4, true)),
        }
    }
    for name in ["set-cookie", "etag", "x-request-id"] {
        for _ in 0..2 {
            let mut block = Vec::new();
            encoder.field(name.as_bytes(), b"value", &mut block);
            assert!(block.len() > 5, "{name}");
        }
    }
    let mut block = Vec::new();
    encoder.field(b"set-cookie", b"a", &mut block);
    assert_eq!(block[0] & 0xf0, 0x10, "never indexed");
}

#[test]
fn mm_02_an_unused_table_holds_no_memory_and_a_full_one_its_size() {
    let mut table = dynamic::Dynamic::new(TABLE);
    let text = vec![b'v'; 900];
    for nth in 0..1000_u32 {
        table.add(nth.to_string().as_bytes(), &text[..(nth as usize * 7) % 900]);
        let (line, field) = table.get(0).unwrap();
        assert_eq!(field.name.of(line), nth.to_string().as_bytes());
        assert_eq!(field.value.of(line).len(), (nth as usize * 7) % 900);
    }
    assert!(table.held() <= TABLE, "{}", table.held());
    table.add(b"n", &[b'v'; TABLE]);
    assert!(table.get(0).is_none(), "an entry larger than the table empties it (4.4)");
}

fn field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof!["[a-z-]{1,12}", Just("server".to_owned()), Just("date".to_owned())];
    (name, proptest::collection::vec(0x20_u8..0x7f, 0..40))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_encoded_is_decoded_the_same(
        blocks in proptest::collection::vec((100_u16..600, proptest::collection::vec(field(), 0..12), proptest::option::of(0_usize..5000)), 1..12),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (status, fields, size) in blocks {
            if let Some(size) = size {
                encoder.limit(size);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.status(status, &mut block);
            let mut expected = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            for (name, value) in fields {
                encoder.field(name.as_bytes(), &value, &mut block);
                expected.push((name.into_bytes(), value));
            }
            prop_assert_eq!(decoded(&mut decoder, &block).unwrap(), expected);
        }
    }

    #[test]
    fn huffman_code_goes_both_ways(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut plain) = (Vec::new(), Vec::new());
        huffman::encode(&text, &mut coded);
        huffman::decode(&coded, &mut plain).unwrap();
        prop_assert_eq!(plain, text);
    }

    #[test]
    fn random_blocks_never_panic(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..6)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decoded(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
