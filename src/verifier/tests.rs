use std::time::{Duration, Instant};

use argon2::{AssociatedData, ParamsBuilder};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "kws_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1c44Ge";
const OTHER: &str = "kws_00000000000000000000000000000000000000000002XkAl1";

/// Hashes of [`SECRET`] by the reference implementation: `printf %s SECRET | argon2
/// keyward-salt-16b -id -v 13 -l 32 -e`, with `-t -k -p` as the string says.
const REFERENCE: [&str; 3] = [
    "$argon2id$v=19$m=1024,t=1,p=1$a2V5d2FyZC1zYWx0LTE2Yg$hst4mA11irTIyPKxsz07yqY+Bo+DfE3BA++JzaoRe0o",
    "$argon2id$v=19$m=19456,t=2,p=1$a2V5d2FyZC1zYWx0LTE2Yg$NB8VxdvD+CUusWUc2fWVczvqE5WvNzE213d1bAUW7TY",
    "$argon2id$v=19$m=4096,t=3,p=4$a2V5d2FyZC1zYWx0LTE2Yg$nvrAnJvKpmcfzzOxLvk1aQ5xwuHZ6NHsal+v7wqNhyQ",
];
const SALT: &str = "a2V5d2FyZC1zYWx0LTE2Yg";
const TAG: &str = "hst4mA11irTIyPKxsz07yqY+Bo+DfE3BA++JzaoRe0o";

fn secret(text: &str) -> Secret {
    Secret::parse(text).expect("a well-formed secret")
}

#[test]
fn the_reference_implementation_agrees() {
    for text in REFERENCE {
        let verifier = Verifier::parse(text).expect(text);
        assert_eq!(verifier.as_str(), text);
        assert!(verifier.verifies(&secret(SECRET)), "{text}");
        assert!(!verifier.verifies(&secret(OTHER)), "{text}");
    }
}

/// RFC 9106, section 5.3.
#[test]
fn the_hash_function_is_that_of_rfc_9106() {
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).expect("12 bytes"))
        .build()
        .expect("within argon2's limits");
    let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
        .expect("8 bytes");
    let mut tag = [0; 32];
    argon2
        .hash_password_into(&[1; 32], &[2; 16], &mut tag)
        .expect("valid input");
    assert_eq!(tag.map(|byte| format!("{byte:02x}")).concat(), expected);
}

#[test]
fn a_new_verifier_has_its_profile_and_its_own_salt() {
    let rows = [
        (HashProfile::Fleet, "m=1024,t=1,p=1"),
        (HashProfile::Owasp, "m=19456,t=2,p=1"),
    ];
    for (profile, cost) in rows {
        let [one, two] = [(); 2].map(|()| Verifier::of(&secret(SECRET), profile).expect("hash"));
        assert!(
            one.as_str().starts_with(&format!("$argon2id$v=19${cost}$")),
            "{one:?}"
        );
        assert_eq!(Verifier::parse(one.as_str()), Ok(one.clone()));
        assert_ne!(one.as_str(), two.as_str());
        assert_eq!(Parts::read(one.as_str()).expect("parts").salt.len(), 16);
        assert!(one.verifies(&secret(SECRET)) && !one.verifies(&secret(OTHER)));
    }
    assert_eq!(HashProfile::default(), HashProfile::Fleet);
}

#[test]
fn verifiers_at_the_caps_are_read() {
    let rows = [
        phc("m=65536,t=10,p=4", &base64(&[7; 64]), TAG),
        phc("m=8,t=1,p=1", &base64(&[7; 16]), TAG),
        phc("m=32,t=1,p=4", SALT, TAG),
    ];
    for row in rows {
        assert!(row.len() <= 166, "{row}");
        assert!(Verifier::parse(&row).is_ok(), "{row}");
    }
}

#[test]
fn hostile_verifiers_are_refused_without_a_hash() {
    use UnusableVerifier::{Algorithm, Cost, Salt, Shape, Tag};
    let good = phc("m=1024,t=1,p=1", SALT, TAG);
    let cost = |cost: &str| phc(cost, SALT, TAG);
    let rows = [
        (String::new(), Shape),
        ("dummy".to_owned(), Shape),
        (good[1..].to_owned(), Shape),
        (format!("{good}$"), Shape),
        (format!("${good}"), Shape),
        (good.replace("$v=19", ""), Shape),
        (good[..good.rfind('$').expect("five")].to_owned(), Shape),
        ("$".repeat(1 << 20), Shape),
        (format!("{good}{}", "A".repeat(1 << 20)), Shape),
        (phc("m=1024,t=1,p=1", &"A".repeat(1 << 20), TAG), Shape),
        (format!(" {good}"), Algorithm),
        (good.replace("argon2id", "argon2i"), Algorithm),
        (good.replace("argon2id", "argon2d"), Algorithm),
        (good.replace("argon2id", "Argon2id"), Algorithm),
        (good.replace("argon2id", "scrypt"), Algorithm),
        (good.replace("v=19", "v=16"), Algorithm),
        (good.replace("v=19", "v=0x13"), Algorithm),
        (good.replace("v=19", "v=019"), Algorithm),
        (cost("m=4294967295,t=1,p=1"), Cost),
        (cost("m=4294967296,t=1,p=1"), Cost),
        (cost("m=18446744073709551616,t=1,p=1"), Cost),
        (cost("m=65537,t=1,p=1"), Cost),
        (cost("m=7,t=1,p=1"), Cost),
        (cost("m=31,t=1,p=4"), Cost),
        (cost("m=0,t=1,p=1"), Cost),
        (cost("m=-1,t=1,p=1"), Cost),
        (cost("m=+1024,t=1,p=1"), Cost),
        (cost("m=01024,t=1,p=1"), Cost),
        (cost("m=1e3,t=1,p=1"), Cost),
        (cost("m= 1024,t=1,p=1"), Cost),
        (cost("m=\u{661}024,t=1,p=1"), Cost),
        (cost("m=1024,t=11,p=1"), Cost),
        (cost("m=1024,t=4294967295,p=1"), Cost),
        (cost("m=1024,t=0,p=1"), Cost),
        (cost("m=1024,t=1,p=5"), Cost),
        (cost("m=65536,t=1,p=16777215"), Cost),
        (cost("m=1024,t=1,p=0"), Cost),
        (cost("m=1024,t=1"), Cost),
        (cost("t=1,m=1024,p=1"), Cost),
        (cost("m=1024,t=1,p=1,p=1"), Cost),
        (cost("m=1024,m=8,t=1,p=1"), Cost),
        (cost("m=1024,t=1,p=1,keyid=AAAA"), Cost),
        (cost("m=1024,t=1,p=1,data=AAAA"), Cost),
        (cost("m=1024,t=1,p=1,"), Cost),
        (cost("M=1024,T=1,P=1"), Cost),
        (cost(""), Cost),
        (phc("m=1024,t=1,p=1", "", TAG), Salt),
        (phc("m=1024,t=1,p=1", &base64(&[7; 15]), TAG), Salt),
        (phc("m=1024,t=1,p=1", &base64(&[7; 65]), TAG), Salt),
        (phc("m=1024,t=1,p=1", &format!("{SALT}=="), TAG), Salt),
        (phc("m=1024,t=1,p=1", &SALT.replace('a', "-"), TAG), Salt),
        (phc("m=1024,t=1,p=1", &SALT.replace('a', "\n"), TAG), Salt),
        // The same 16 bytes, with a stray bit in the last character.
        (phc("m=1024,t=1,p=1", &SALT.replace("Yg", "Yh"), TAG), Salt),
        (phc("m=1024,t=1,p=1", SALT, ""), Tag),
        (phc("m=1024,t=1,p=1", SALT, &base64(&[7; 16])), Tag),
        (phc("m=1024,t=1,p=1", SALT, &base64(&[7; 31])), Tag),
        (phc("m=1024,t=1,p=1", SALT, &base64(&[7; 33])), Tag),
        (phc("m=1024,t=1,p=1", SALT, &base64(&[7; 64])), Tag),
        (phc("m=1024,t=1,p=1", SALT, &format!("{TAG}=")), Tag),
        (phc("m=1024,t=1,p=1", SALT, &TAG.replace('+', "-")), Tag),
        (phc("m=1024,t=1,p=1", SALT, &TAG[..42]), Tag),
        (phc("m=1024,t=1,p=1", SALT, &format!("{TAG}\n")), Tag),
        (phc("m=1024,t=1,p=1", SALT, &format!("{TAG}\0")), Tag),
    ];
    let begin = Instant::now();
    for (row, expected) in rows {
        assert_eq!(Verifier::parse(&row), Err(expected), "{row:.200}");
    }
    // The dearest row alone would take hours if anything hashed it.
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_failing_generator_is_an_error() {
    let failed = Verifier::with_rng(&secret(SECRET), HashProfile::Fleet, &mut Failing);
    assert!(matches!(failed, Err(HashError::Entropy(_))));
}

#[test]
fn debug_names_the_cost_and_nothing_else() {
    let verifier = Verifier::parse(REFERENCE[0]).expect("well formed");
    assert_eq!(format!("{verifier:?}"), "Verifier(m=1024,t=1,p=1)");
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in any::<String>()) {
        prop_assert!(Verifier::parse(&text).is_err());
    }

    #[test]
    fn what_is_cut_short_is_refused(row in 0_usize..3, length in 0_usize..200) {
        let text = REFERENCE[row];
        if let Some(cut) = text.get(..length).filter(|cut| cut.len() < text.len()) {
            prop_assert!(Verifier::parse(cut).is_err(), "{}", cut);
        }
    }

    /// A flipped bit makes another verifier at most, within the caps, and not a second way to write
    /// the same one.
    #[test]
    fn a_flipped_bit_is_refused_or_makes_another_verifier(
        row in 0_usize..3, at in any::<prop::sample::Index>(), bit in 0_u32..8,
    ) {
        let mut bytes = REFERENCE[row].as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Verifier::parse(&String::from_utf8_lossy(&bytes)) {
            let parts = |text: &str| {
                let Parts { params, salt, tag } = Parts::read(text).expect("a verifier");
                (params.m_cost(), params.t_cost(), params.p_cost(), salt, tag)
            };
            let (m, t, p, ..) = parts(read.as_str());
            prop_assert!(m <= MAX_M && t <= MAX_T && p <= MAX_P);
            prop_assert_ne!(parts(read.as_str()), parts(REFERENCE[row]));
        }
    }

    #[test]
    fn what_is_read_lies_within_the_caps(
        m in any::<u32>(), t in 0_u32..12, p in 0_u32..6, salt in 0_usize..70, tag in 30_usize..34,
    ) {
        let text = phc(&format!("m={m},t={t},p={p}"), &base64(&vec![7; salt]), &base64(&vec![7; tag]));
        let fits = (8 * p..=65536).contains(&m)
            && (1..=10).contains(&t)
            && (1..=4).contains(&p)
            && (16..=64).contains(&salt)
            && tag == 32;
        prop_assert_eq!(Verifier::parse(&text).is_ok(), fits);
    }
}

fn phc(cost: &str, salt: &str, tag: &str) -> String {
    format!("$argon2id$v=19${cost}${salt}${tag}")
}

struct Failing;

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

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), NoEntropy> {
        Err(NoEntropy)
    }
}

/// `printf %s VERIFIER | sha256sum | cut -c1-16`
#[test]
fn a_thumbprint_is_the_begin_of_the_sha_256() {
    let thumbprint = Verifier::parse(REFERENCE[0])
        .expect("a verifier")
        .thumbprint();
    let written = String::from(thumbprint);
    assert_eq!(written, "d6b8269406973260");
    assert_eq!(Thumbprint::try_from(written), Ok(thumbprint));
    for wrong in [
        "",
        "d6b826940697326",
        "d6b82694069732600",
        "D6B8269406973260",
        "+6b8269406973260",
        "g6b8269406973260",
    ] {
        let read = Thumbprint::try_from(wrong.to_owned());
        assert_eq!(read, Err(MalformedThumbprint), "{wrong}");
    }
}
