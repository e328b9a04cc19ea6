//! The registry refuses with pointers, seals what it must, and lifts what is old.

use serde_json::json;

use super::*;
use crate::clock::Ids;
use crate::config::Config;
use crate::domain::stream_type::Schema;

const USER: &str = "018f2b6e-7b7c-7b3e-9a52-3f6f0d7c5a11";
const EVENT: &str = "018f2b6e-7b7c-7b3e-9a52-3f6f0d7c5a12";

fn keys() -> Keyring {
    let secret = "HAPPENING__AUTH__SIGNING_SECRET".to_owned();
    let all = [(secret, "0123456789abcdefghijklmnopqrstuvwxyz".to_owned())];
    let config = Config::from_sources(None, all.into()).unwrap();
    Keyring::new(&config.seal, &config.auth, Ids).unwrap()
}

fn registry() -> Registry {
    Registry::new(keys()).unwrap()
}

fn interest() -> Value {
    json!({"eventId": EVENT, "userId": USER, "state": "sure", "previous": null,
        "privacy": "public", "version": 1})
}

fn vendor() -> Value {
    json!({"id": EVENT, "name": "Bread", "phone": "+49 30 1", "email": "b@example.com",
        "open": true, "lat": 0, "long": 0.0, "createdAt": "2026-01-02T03:04:05.678Z",
        "updatedAt": "2026-01-02T03:04:05.678Z"})
}

/// What is wrong with data, as (pointer, code).
fn wrong(name: &str, data: &Value) -> Vec<(String, &'static str)> {
    let registry = registry();
    let publisher = registry.find(name).unwrap().publishers[0];
    match registry.admit(publisher, name, data) {
        Ok(_) => Vec::new(),
        Err(Refusal::Invalid(faults)) => {
            let mut all: Vec<_> =
                faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect();
            all.sort();
            all
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_documented_payloads_fit() {
    let at = "2026-11-21T10:00:00Z";
    let all = [
        ("interest.changed", interest()),
        ("event.rated", json!({"eventId": EVENT, "userId": USER, "rating": 5, "version": 1})),
        ("event.rated", json!({"eventId": EVENT, "userId": USER, "rating": null, "version": 2})),
        ("organizer.followed", json!({"organizationId": EVENT, "userId": USER, "version": 1})),
        ("organizer.unfollowed", json!({"organizationId": EVENT, "userId": USER, "version": 2})),
        (
            "post.created",
            json!({"post_id": EVENT, "user_id": USER, "content": "hi ü",
            "timestamp": at}),
        ),
        ("post.liked", json!({"post_id": EVENT, "user_id": USER, "timestamp": at})),
        ("follower.added", json!({"follower_id": EVENT, "followed_id": USER, "timestamp": at})),
        (
            "alert.continued",
            json!({"eventId": EVENT, "organizationId": EVENT, "alertId": EVENT, "after": USER,
                "actorId": USER, "nextActorId": null, "sure": 1, "maybe": 0, "interested": 0}),
        ),
        ("vendor.created", vendor()),
        ("vendor.updated", vendor()),
        (
            "vendor.deleted",
            json!({"id": EVENT, "name": "Bread", "open": false,
            "description": null, "createdAt": at, "updatedAt": at}),
        ),
    ];
    for (name, data) in &all {
        assert_eq!(wrong(name, data), [], "{name}");
    }
    for kind in ALL {
        assert!(all.iter().any(|(name, _)| *name == kind.name), "{} has no sample", kind.name);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_pointers() {
    let data = json!({"eventId": "not-a-uuid", "userId": 7, "state": "perhaps", "previous": null,
        "version": 0, "a/b": 1});
    assert_eq!(
        wrong("interest.changed", &data),
        [
            ("/a~1b".to_owned(), "unknown_field"),
            ("/eventId".to_owned(), "wrong_format"),
            ("/privacy".to_owned(), "required"),
            ("/state".to_owned(), "unknown"),
            ("/userId".to_owned(), "wrong_type"),
            ("/version".to_owned(), "out_of_range"),
        ]
    );
    let mut odd = vendor();
    odd["lat"] = json!(90.5);
    odd["name"] = json!("a\0b");
    odd["description"] = json!("x".repeat(20_001));
    odd["createdAt"] = json!("yesterday");
    odd["email"] = json!("nobody");
    let expected = [
        ("/createdAt", "wrong_format"),
        ("/description", "too_long"),
        ("/email", "wrong_format"),
        ("/lat", "out_of_range"),
        ("/name", "invalid_characters"),
    ];
    assert_eq!(wrong("vendor.created", &odd), expected.map(|(at, code)| (at.to_owned(), code)));
    for not_an_object in [json!(null), json!([]), json!("x"), json!(1.5)] {
        assert_eq!(wrong("post.liked", &not_an_object), [(String::new(), "wrong_type")]);
    }
}

#[test]
fn a_thousand_faults_are_told_in_part_and_never_show_the_value() {
    let mut data = interest();
    for n in 0..1000 {
        data[format!("more{n}")] = json!(n);
    }
    data["state"] = json!("a secret");
    let Err(Refusal::Invalid(faults)) =
        registry().admit(Publisher::Interests, "interest.changed", &data)
    else {
        panic!("it was admitted")
    };
    assert!(faults.len() <= FAULTS_MAX, "{}", faults.len());
    assert!(faults.iter().all(|fault| !fault.detail.contains("secret")), "{faults:?}");
}

#[test]
fn strangers_unknown_types_and_giants_are_refused() {
    let registry = registry();
    let refused = |publisher, name, data: &Value| registry.admit(publisher, name, data).err();
    assert_eq!(refused(Publisher::Operator, "no.such", &json!({})), Some(Refusal::UnknownType));
    let rated = json!({"eventId": EVENT, "userId": USER, "rating": 5, "version": 1});
    let not_allowed = Some(Refusal::PublisherNotAllowed);
    assert_eq!(refused(Publisher::Operator, "event.rated", &rated), not_allowed);
    assert_eq!(refused(Publisher::Vendors, "interest.changed", &interest()), not_allowed);
    let mut giant = interest();
    giant["state"] = json!("x".repeat(DATA_MAX));
    let too_large = Some(Refusal::MessageTooLarge { max: DATA_MAX });
    assert_eq!(refused(Publisher::Operator, "interest.changed", &giant), too_large);
}

#[test]
fn secrets_leave_sealed_and_reach_consumers_open() {
    let (registry, id) = (registry(), MessageId(Ids.uuid()));
    let prepared = registry.prepare(Publisher::Vendors, "vendor.created", id, vendor()).unwrap();
    assert_eq!(prepared.partition_key, EVENT);
    assert!(!prepared.payload.contains("b@example.com") && !prepared.payload.contains("+49"));
    let travelled: Value = serde_json::from_str(&prepared.payload).unwrap();
    assert_eq!(registry.accept("vendor.created", 1, id, travelled.clone()).unwrap(), vendor());
    let other = MessageId(Ids.uuid());
    let moved = registry.accept("vendor.created", 1, other, travelled).unwrap_err();
    assert!(moved.reason().starts_with("/phone cannot be opened"), "{moved:?}");
    // Nobody gets anything past us by not sealing it.
    assert!(registry.accept("vendor.created", 1, id, vendor()).is_err());
    let mut silent = vendor();
    silent["email"] = json!(null);
    silent.as_object_mut().unwrap().remove("phone");
    let prepared = registry.prepare(Publisher::Vendors, "vendor.updated", id, silent.clone());
    let travelled = serde_json::from_str(&prepared.unwrap().payload).unwrap();
    assert_eq!(registry.accept("vendor.updated", 1, id, travelled).unwrap(), silent);
}

#[test]
fn what_does_not_fit_is_a_defect_with_its_reason() {
    let (registry, id) = (registry(), MessageId(Ids.uuid()));
    let defect = |name, version, data| {
        registry.accept(name, version, id, data).unwrap_err().reason().to_owned()
    };
    assert!(defect("no.such", 1, json!({})).contains("no.such"));
    assert!(defect("interest.changed", 9, interest()).contains("no version 9"));
    assert!(defect("interest.changed", 0, interest()).contains("no version 0"));
    let told = defect("interest.changed", 1, json!({"eventId": EVENT}));
    assert!(told.contains("/schemas/interest.changed/1: /userId: is missing"), "{told}");
}

/// Version 2 wrote the seats as a list, version 3 tells of the hall as well.
const SEATED: StreamType = StreamType {
    name: "guest.seated",
    schema: Schema {
        version: 3,
        text: r#"{"type": "object", "required": ["seats", "hall"], "additionalProperties": false,
            "properties": {"hall": {"type": "string"},
                "seats": {"type": "array", "minItems": 1}}}"#,
    },
    older: &[
        Schema {
            version: 2,
            text: r#"{"type": "object", "required": ["seats"], "additionalProperties": false,
                "properties": {"seats": {"type": "array"}}}"#,
        },
        Schema {
            version: 1,
            text: r#"{"type": "object", "required": ["seat"], "additionalProperties": false,
                "properties": {"seat": {"type": "integer"}}}"#,
        },
    ],
    ..ALL[1]
};
const LIFTS: &[Upcast] = &[
    Upcast {
        kind: "guest.seated",
        from: 1,
        lift: |mut data| {
            let seat = data["seat"].take();
            json!({"seats": [seat]})
        },
    },
    Upcast {
        kind: "guest.seated",
        from: 2,
        lift: |mut data| {
            data["hall"] = json!("main");
            data
        },
    },
];

#[test]
fn older_versions_are_lifted_step_by_step_and_checked_on_both_ends() {
    let registry = Registry::of(&[SEATED], LIFTS, keys(), DATA_MAX).unwrap();
    let id = MessageId(Ids.uuid());
    let accept = |version, data| registry.accept("guest.seated", version, id, data);
    let current = json!({"seats": [4], "hall": "main"});
    assert_eq!(accept(1, json!({"seat": 4})).unwrap(), current);
    assert_eq!(accept(2, json!({"seats": [4]})).unwrap(), current);
    assert_eq!(accept(3, current.clone()).unwrap(), current);
    let early = accept(1, json!({"seat": "four"})).unwrap_err();
    assert!(early.reason().contains("/schemas/guest.seated/1: /seat"), "{early:?}");
    // What fitted its own version may still not fit ours.
    let late = accept(2, json!({"seats": []})).unwrap_err();
    assert!(late.reason().contains("/schemas/guest.seated/3: /seats"), "{late:?}");
    // Only the current version is published.
    let old = registry.admit(SEATED.publishers[0], "guest.seated", &json!({"seat": 4}));
    assert!(matches!(old, Err(Refusal::Invalid(_))));
}

#[test]
fn a_version_without_an_upcast_is_found_at_the_start() {
    let error = Registry::of(&[SEATED], &LIFTS[..1], keys(), DATA_MAX).err().unwrap();
    assert!(error.to_string().contains("/schemas/guest.seated/2 has no upcast"), "{error}");
}

#[test]
fn the_key_of_text_is_the_key_of_what_it_says() {
    let places = ["/eventId", "/n", "/none", "/a/b", "/a~1b", "/text"];
    for text in [
        &interest().to_string(),
        r#"{"n": 7, "a": {"b": "deep"}, "a/b": true, "text": "\u00e4 \"x\"", "n": null}"#,
        r#" {"eventId":"one","eventId":"two"} "#,
        "[]",
        "null",
    ] {
        let data: Value = serde_json::from_str(text).unwrap();
        for place in places {
            let kind = StreamType { partition_key: place, ..SEATED };
            assert_eq!(
                partition_key_of(&kind, text),
                partition_key(&kind, &data),
                "{place} {text}"
            );
        }
    }
}
