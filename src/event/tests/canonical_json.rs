//! Canonical JSON: the specification's examples, and that all ways to it agree.
//! <https://spec.matrix.org/v1.19/appendices/#canonical-json>

use std::borrow::Cow;

use event::NumberRule;
use event::canonical::{
    CanonicalError, MAX_INTEGER, MAX_NESTING, from_text, is_canonical, to_bytes,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn canonical(text: &str) -> Result<String, CanonicalError> {
    from_text(text, NumberRule::Integers).map(Cow::into_owned)
}

#[test]
fn the_examples_of_the_specification_come_out_as_it_says() {
    let cases = [
        ("{}", "{}"),
        (r#"{"one": 1, "two": "Two"}"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{"b": "2", "a": "1"}"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{ "auth": { "success": true, "mxid": "@john.doe:example.com", "profile": {
                "display_name": "John Doe", "three_pids": [
                  { "medium": "email", "address": "john.doe@example.org" },
                  { "medium": "msisdn", "address": "123456789" } ] } } }"#,
            concat!(
                r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","#,
                r#""three_pids":[{"address":"john.doe@example.org","medium":"email"},"#,
                r#"{"address":"123456789","medium":"msisdn"}]},"success":true}}"#
            ),
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(canonical(text).as_deref(), Ok(expected));
        let tree: Value = serde_json::from_str(text).unwrap();
        assert_eq!(to_bytes(&tree).unwrap(), expected.as_bytes());
        assert!(is_canonical(expected.as_bytes()));
        assert_eq!(is_canonical(text.as_bytes()), text == expected);
    }
    assert_eq!(
        to_bytes(&json!({"a": -0.0, "b": 1e10})).unwrap(),
        br#"{"a":0,"b":10000000000}"#
    );
}

#[test]
fn numbers_other_than_53_bit_integers_are_refused_from_version_6_on() {
    assert_eq!(
        canonical("[9007199254740991,-9007199254740991,-0]").unwrap(),
        "[9007199254740991,-9007199254740991,0]"
    );
    for number in [
        "9007199254740992",
        "-9007199254740992",
        "1.5",
        "1.0",
        "1e3",
        "9223372036854775807",
        "-9223372036854775807",
        // Its absolute value is no i64.
        "-9223372036854775808",
        "99999999999999999999",
    ] {
        assert!(!is_canonical(number.as_bytes()));
        assert_eq!(
            canonical(number),
            Err(CanonicalError::Number(number.to_owned()))
        );
    }
    assert!(to_bytes(&json!(1.5)).is_err());
    assert!(to_bytes(&json!(9_007_199_254_740_992i64)).is_err());
    assert!(to_bytes(&json!(u64::MAX)).is_err());
    assert!(to_bytes(&json!(i64::MIN)).is_err());
}

#[test]
fn numbers_of_old_rooms_keep_the_form_they_were_signed_in() {
    let cases = [
        ("1.0", "1.0"),
        ("1e3", "1000.0"),
        ("0.1", "0.1"),
        ("1e16", "1e+16"),
        ("1.5e300", "1.5e+300"),
        ("0.00001", "1e-05"),
        ("0.0001", "0.0001"),
        ("123456789012345.6", "123456789012345.6"),
        ("-0.0", "-0.0"),
        ("-0", "0"),
        (
            "123456789012345678901234567890",
            "123456789012345678901234567890",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            from_text(text, NumberRule::Any).as_deref(),
            Ok(expected),
            "{text}"
        );
    }
    assert!(from_text("1e999", NumberRule::Any).is_err());
}

#[test]
fn text_that_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "{]",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{a:1}",
        "nul",
        "truE",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\u{1}\"",
        "01",
        "-",
        "1.",
        "1e",
        "+1",
        "{} {}",
        "[1 2]",
        "'a'",
    ] {
        assert!(
            matches!(canonical(text), Err(CanonicalError::Syntax { .. })),
            "{text:?}"
        );
    }
}

#[test]
fn the_last_of_equal_keys_counts() {
    assert_eq!(
        canonical(r#"{"b":0,"a":1,"a":2,"\u0061":3}"#).unwrap(),
        r#"{"a":3,"b":0}"#
    );
    assert!(!is_canonical(br#"{"a":1,"a":2}"#));
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(canonical(&deep(MAX_NESTING)).is_ok());
    assert_eq!(
        canonical(&deep(MAX_NESTING + 2)),
        Err(CanonicalError::Nesting)
    );
    assert!(!is_canonical(deep(100_000).as_bytes()));
}

#[test]
fn control_characters_have_one_spelling() {
    let text = (0u8..0x20).map(char::from).collect::<String>() + "\u{7f}\u{2028}";
    let bytes = to_bytes(&json!(text)).unwrap();
    assert!(is_canonical(&bytes));
    for other in [
        r#""\u000A""#,
        r#""\u000a""#,
        r#""\/""#,
        r#""\u001F""#,
        r#""\u0041""#,
    ] {
        assert!(!is_canonical(other.as_bytes()), "{other}");
        assert!(is_canonical(canonical(other).unwrap().as_bytes()));
    }
}

fn any_tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn tree_and_text_give_the_same_bytes_which_are_a_fixed_point(tree in any_tree()) {
        let bytes = to_bytes(&tree).unwrap();
        let text = serde_json::to_string_pretty(&tree).unwrap();
        prop_assert_eq!(canonical(&text).unwrap().into_bytes(), bytes.clone());
        prop_assert!(is_canonical(&bytes));
        prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), tree);
    }

    #[test]
    fn no_text_makes_it_panic_and_what_it_accepts_serde_accepts(text in any::<String>()) {
        if let Ok(out) = canonical(&text) {
            prop_assert!(serde_json::from_str::<Value>(&out).is_ok());
            prop_assert_eq!(canonical(&out).unwrap(), out);
        }
    }
}
