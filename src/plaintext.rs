//! What holds plaintext cannot be printed, copied or sent by accident: each line that would do so
//! fails to compile, and for this reason and no other (E0277: the trait is missing). Beside them stand
//! lines that compile, so that no type or trait is merely misspelt.

/// The tests of one type: it has none of these traits, and is there.
macro_rules! holds_plaintext {
    ($name:ident: $type:literal has none of $($trait:literal)*) => {
        $(
            #[doc = concat!("```compile_fail,E0277\nfn has<T: ", $trait, ">() {}\nhas::<", $type, ">();\n```")]
        )*
        #[doc = concat!("```\nfn is<T>() {}\nis::<", $type, ">();\n```")]
        pub struct $name;
    };
}

holds_plaintext!(Secret: "keyward::key::Secret" has none of
    "std::fmt::Debug" "std::fmt::Display" "serde::Serialize" "serde::de::DeserializeOwned" "Clone"
    "From<String>" "std::str::FromStr" "Into<String>" "AsRef<str>" "PartialEq");

holds_plaintext!(Presented: "keyward::policy::Presented<'_>" has none of
    "std::fmt::Debug" "serde::Serialize" "Clone");

holds_plaintext!(Credentials: "keyward::gateway::Credentials<'_>" has none of
    "std::fmt::Debug" "serde::Serialize" "Clone");

holds_plaintext!(Contents: "keyward::controller::delivery::Contents" has none of
    "std::fmt::Debug" "serde::Serialize" "Clone");

holds_plaintext!(Kept: "keyward::controller::run::Kept" has none of
    "std::fmt::Debug" "serde::Serialize" "Clone");

holds_plaintext!(Ended: "keyward::controller::run::Ended" has none of
    "std::fmt::Debug" "serde::Serialize" "Clone");

/// The traits, as they are spelt above, on types that have them.
///
/// ```
/// fn has<T: std::fmt::Debug + std::fmt::Display + serde::Serialize + serde::de::DeserializeOwned>() {}
/// fn also<T: Clone + From<String> + std::str::FromStr + Into<String> + AsRef<str> + PartialEq>() {}
/// has::<String>();
/// also::<String>();
/// ```
pub struct Traits;
