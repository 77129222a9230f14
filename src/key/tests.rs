use std::collections::HashSet;
use std::convert::Infallible;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

/// Computed with Python's `zlib.crc32` and `hashlib.sha256`: secret, its check for `KEY_A`, its
/// check for `KEY_B`.
const VECTORS: [(&str, &str, &str); 4] = [
    (
        "kws_00000000000000000000000000000000000000000002XkAl1",
        "64115828",
        "dfc8feae",
    ),
    (
        "kws_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz4HDBrW",
        "91b2f116",
        "f7f413c0",
    ),
    (
        "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge",
        "2e618d88",
        "d95de913",
    ),
    (
        "kws_aKeyThatNobodyUsesButTestsWhichPinItsCRC32x0rhlbc",
        "88f4e747",
        "c3d7679a",
    ),
];
const KEY_A: &str = "kwk_00000000000000000000000000";
const KEY_B: &str = "kwk_0123456789abcdefghjkmnpqrs";
const SAMPLE: &str = VECTORS[3].0;

#[test]
fn secrets_and_checks_match_independent_vectors() {
    for (text, check_a, check_b) in VECTORS {
        let secret = Secret::parse(text).expect(text);
        assert_eq!(secret.expose(), text);
        assert_eq!(Check::of(KEY_A, &secret).as_str(), check_a);
        assert_eq!(Check::of(KEY_B, &secret).as_str(), check_b);
    }
}

/// What was written over is not found; so that this can fail, it is found before.
#[cfg(target_os = "linux")]
#[test]
fn a_dropped_secret_is_gone_from_memory() {
    let secret = Secret::generate().expect("a secret");
    // Without its beginning, where an allocator may write once it is given back.
    let rest = &secret.expose()[16..];
    let (address, hidden) = (rest.as_ptr() as u64, hide(rest.as_bytes()));
    let stands_there = || hide(&memory_at(address, hidden.len())) == hidden;
    assert!(stands_there() && memory_holds(&hidden));
    drop(secret);
    assert!(!stands_there(), "it is still there");
    assert!(!memory_holds(&hidden), "a copy is left");
}

/// A secret, so that a search for it does not find what is searched for.
#[cfg(target_os = "linux")]
fn hide(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

#[cfg(target_os = "linux")]
fn memory_at(address: u64, length: usize) -> Zeroizing<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").expect("this process's memory");
    let mut bytes = Zeroizing::new(vec![0; length]);
    memory
        .read_exact_at(&mut bytes, address)
        .expect("it is mapped");
    bytes
}

/// Does memory that this process may write to hold what is hidden, anywhere?
#[cfg(target_os = "linux")]
fn memory_holds(hidden: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").expect("this process's memory");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let holds = |line: &str| {
        let (range, rest) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(end - start).expect("a size")]);
        // What another thread has unmapped by now holds nothing.
        let read = rest.starts_with("rw") && memory.read_exact_at(&mut bytes, start).is_ok();
        read && bytes.windows(hidden.len()).any(|window| {
            window
                .iter()
                .zip(hidden)
                .all(|(byte, hidden)| *byte == !hidden)
        })
    };
    maps.lines().any(holds)
}

#[test]
fn key_ids_spell_128_bits_most_significant_first() {
    let rows = [
        ([0x00; 16], "kwk_00000000000000000000000000"),
        ([0xff; 16], "kwk_7zzzzzzzzzzzzzzzzzzzzzzzzz"),
        (
            (1_u128 << 127).to_be_bytes(),
            "kwk_40000000000000000000000000",
        ),
        (31_u128.to_be_bytes(), "kwk_0000000000000000000000000z"),
        (32_u128.to_be_bytes(), "kwk_00000000000000000000000010"),
    ];
    for (bytes, expected) in rows {
        let key = KeyId::from_rng(&mut Fixed(&bytes)).expect("fixed bytes");
        assert_eq!(key.as_str(), expected);
        assert_eq!(key.to_string(), expected);
    }
}

#[test]
fn the_sampler_draws_again_for_62_and_63() {
    let secret = Secret::from_rng(&mut Fixed(&[62, 63, 61, 0, 64 + 10, 128 + 36, 255]))
        .expect("fixed bytes");
    assert!(secret.expose().starts_with("kws_z0Aaz0Aa"));
}

#[test]
fn every_malformed_text_is_refused() {
    let rows = [
        String::new(),
        "kws_".to_owned(),
        " ".to_owned() + SAMPLE,
        SAMPLE.to_owned() + " ",
        SAMPLE.to_owned() + "\n",
        SAMPLE.to_owned() + "0",
        SAMPLE.to_owned() + "\0",
        SAMPLE[..SECRET_LEN - 1].to_owned(),
        SAMPLE[1..].to_owned(),
        SAMPLE.replace("kws_", "kwk_"),
        SAMPLE.replace("kws_", "KWS_"),
        SAMPLE.replace("kws_", ""),
        SAMPLE.to_uppercase(),
        SAMPLE.to_lowercase(),
        SAMPLE.replace('K', "\u{212a}"),
        SAMPLE.replace("Nobody", "Nobo\u{e9}"),
        format!("kws_{}", "\u{e9}".repeat(24)) + "a",
        with_crc(&("kws_".to_owned() + &"-".repeat(43))),
        "Bearer nothing".to_owned(),
        "a".repeat(1 << 20),
        "\0".repeat(SECRET_LEN),
        "$argon2id$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
    ];
    for row in rows {
        assert!(Secret::parse(&row).is_err(), "accepted {row:.80?}");
    }
}

fn with_crc(body: &str) -> String {
    body.chars()
        .chain(crc_digits(body).map(char::from))
        .collect()
}

#[test]
fn every_single_character_typo_is_refused() {
    let printable = || (b' '..=b'~').map(char::from);
    for (at, original) in SAMPLE.char_indices() {
        for typo in printable().filter(|typo| *typo != original) {
            let text = format!("{}{typo}{}", &SAMPLE[..at], &SAMPLE[at + 1..]);
            assert!(Secret::parse(&text).is_err(), "accepted {text}");
        }
    }
}

#[test]
fn every_swap_of_neighbours_is_refused() {
    for at in 0..SECRET_LEN - 1 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes.swap(at, at + 1);
        let text = String::from_utf8(bytes).expect("ASCII");
        assert!(
            text == SAMPLE || Secret::parse(&text).is_err(),
            "accepted {text}"
        );
    }
}

#[test]
fn checks_are_eight_lower_case_hexadecimal_digits() {
    assert_eq!(
        Check::parse("0189adef").expect("well formed").as_str(),
        "0189adef"
    );
    for row in [
        "",
        "0189ade",
        "0189adef0",
        "0189ADEF",
        "0189adeg",
        " 189adef",
        "é89adef",
        "0x89adef",
    ] {
        assert_eq!(Check::parse(row), Err(MalformedCheck), "{row}");
    }
}

#[test]
fn a_failing_generator_is_an_error() {
    let message = "the operating system's random generator failed: no entropy today";
    let key = KeyId::from_rng(&mut Failing { after: 0 }).expect_err("no entropy");
    assert_eq!(key.to_string(), message);
    for after in 0..2 {
        let secret = Secret::from_rng(&mut Failing { after })
            .err()
            .expect("no entropy");
        assert_eq!(secret.to_string(), message);
    }
}

#[test]
fn errors_hold_nothing_of_the_input() {
    let error = Secret::parse("kws_hunter2").err().expect("too short");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(size_of::<MalformedSecret>(), 0);
}

#[test]
fn characters_of_secrets_are_uniform() {
    let mut rng = StdRng::seed_from_u64(20_260_901);
    let mut counts = [0_u32; 62];
    const SECRETS: usize = 10_000;
    for _ in 0..SECRETS {
        let secret = Secret::from_rng(&mut rng).expect("seeded");
        for byte in secret.expose()[SECRET_PREFIX.len()..BODY_LEN].bytes() {
            counts[BASE62
                .iter()
                .position(|digit| *digit == byte)
                .expect("base62")] += 1;
        }
    }
    let expected = (SECRETS * RANDOM_DIGITS) as f64 / 62.0;
    let chi_square: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    // 61 degrees of freedom: 99.9 % of fair samplers lie below 100.9, and 99.9 % above 30.0.
    assert!((30.0..100.9).contains(&chi_square), "{chi_square}");
}

#[test]
fn a_hundred_thousand_keys_and_secrets_are_distinct() {
    let keys: HashSet<KeyId> = (0..100_000)
        .map(|_| KeyId::generate().expect("entropy"))
        .collect();
    let secrets: HashSet<String> = (0..100_000)
        .map(|_| Secret::generate().expect("entropy").expose().to_owned())
        .collect();
    assert_eq!((keys.len(), secrets.len()), (100_000, 100_000));
}

proptest! {
    #[test]
    fn generated_material_has_its_shape(seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let key = KeyId::from_rng(&mut rng).expect("seeded");
        let secret = Secret::from_rng(&mut rng).expect("seeded");
        prop_assert_eq!(key.as_str().len(), 30);
        prop_assert!(key.as_str()[4..].bytes().all(|byte| BASE32.contains(&byte)));
        prop_assert_eq!(secret.expose().len(), 53);
        prop_assert!(secret.0.capacity() == SECRET_LEN, "grown while it was built");
        let parsed = Secret::parse(secret.expose()).ok().map(|parsed| parsed.expose().to_owned());
        prop_assert_eq!(parsed.as_deref(), Some(secret.expose()));
    }

    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in any::<String>(), tail in "[0-9A-Za-z]{49}") {
        prop_assert!(Secret::parse(&text).is_err());
        // A random tail has a right CRC once in 2^32.
        prop_assert!(Secret::parse(&("kws_".to_owned() + &tail)).is_err());
        prop_assert!(Check::parse(&text).is_err() || text.len() == 8);
    }
}

/// Repeats the same bytes.
struct Fixed<'a>(&'a [u8]);

impl TryRng for Fixed<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes
            .iter_mut()
            .zip(self.0.iter().cycle())
            .for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Gives nothing but rejected values `after` times, then fails.
struct Failing {
    after: u32,
}

#[derive(Debug, Error)]
#[error("no entropy today")]
struct NoEntropy;

impl TryRng for Failing {
    type Error = NoEntropy;

    fn try_next_u32(&mut self) -> Result<u32, NoEntropy> {
        Err(NoEntropy)
    }

    fn try_next_u64(&mut self) -> Result<u64, NoEntropy> {
        Err(NoEntropy)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.after = self.after.checked_sub(1).ok_or(NoEntropy)?;
        bytes.fill(63);
        Ok(())
    }
}
