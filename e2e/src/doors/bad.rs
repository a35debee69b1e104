//! Bad values for every field, by its type and by what its name says it means; and bad bytes for every message.
//!
//! Walks a good request ([`super::good`]) and changes one thing at a time. It does not know what a door makes of it: most
//! must be refused, and what is legal after all stands in [`super::exceptions`].

use std::sync::Arc;

use prost::{
    Message as _,
    bytes::BufMut as _,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

/// One change of a request.
#[derive(Clone)]
pub struct Bad {
    /// What is bad, as in `lines[0].quantity`.
    pub field: String,
    /// How, as in `negative`.
    pub how: String,
    path: Vec<At>,
    edit: Edit,
}

/// A field, or an element of it.
#[derive(Debug, Clone)]
struct At {
    field: FieldDescriptor,
    index: Option<usize>,
}

/// What a value becomes; none: it is left out.
type Edit = Arc<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// Every bad value of every field of a request like this one.
#[must_use]
pub fn values(good: &DynamicMessage) -> Vec<Bad> {
    let mut all = Vec::new();
    walk(good, &[], "", &mut all);
    all.retain(|bad| bad.of(good).is_some_and(|bad| bad.encode_to_vec() != good.encode_to_vec()));
    all
}

impl Bad {
    /// The good request with this change; none where it cannot be changed so.
    #[must_use]
    pub fn of(&self, good: &DynamicMessage) -> Option<DynamicMessage> {
        let mut bad = good.clone();
        change(&mut bad, &self.path, &self.edit)?;
        Some(bad)
    }
}

fn change(message: &mut DynamicMessage, path: &[At], edit: &Edit) -> Option<()> {
    let (at, below) = path.split_first()?;
    if let (None, []) = (at.index, below) {
        match edit(&message.get_field(&at.field)) {
            Some(value) => message.set_field(&at.field, value),
            None => message.clear_field(&at.field),
        }
        return Some(());
    }
    let mut value = message.get_field_mut(&at.field);
    if let Some(index) = at.index {
        value = &mut value.as_list_mut()?[index];
    }
    if below.is_empty() {
        // An element that is left out is not there: that is another change, `empty`.
        *value = edit(value)?;
        return Some(());
    }
    change(value.as_message_mut()?, below, edit)
}

fn walk(message: &DynamicMessage, above: &[At], name: &str, all: &mut Vec<Bad>) {
    for field in message.descriptor().fields() {
        let now = message.get_field(&field).into_owned();
        let dot = if name.is_empty() { "" } else { "." };
        let mut named = format!("{name}{dot}{}", field.name());
        let mut at = At { field: field.clone(), index: None };
        let path = |at: &At| [above, std::slice::from_ref(at)].concat();
        let mut say = |named: &str, at: &At, edits: Vec<(String, Edit)>| {
            for (how, edit) in edits {
                all.push(Bad { field: named.to_owned(), how, path: path(at), edit });
            }
        };
        if field.is_map() {
            say(&named, &at, map());
            continue;
        }
        let mut value = &now;
        if let Value::List(list) = &now {
            say(&named, &at, repeated());
            value = list.first().unwrap_or_else(|| panic!("a good request has a first of {named}"));
            at.index = Some(0);
            named.push_str("[0]");
        }
        say(&named, &at, one(&field, value));
        if let (Value::Message(nested), Kind::Message(described)) = (value, field.kind())
            && !is_time(&described)
        {
            walk(nested, &path(&at), &named, all);
        }
    }
}

fn edit(how: &str, edit: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> (String, Edit) {
    (how.to_owned(), Arc::new(edit))
}

/// Whatever it is now.
fn to(how: &str, value: Value) -> (String, Edit) {
    edit(how, move |_| Some(value.clone()))
}

fn map() -> Vec<(String, Edit)> {
    fn entries(
        how: &str,
        make: impl Fn() -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> (String, Edit) {
        edit(how, move |_| {
            let entries = make().into_iter().map(|(key, value)| (MapKey::String(key), Value::String(value)));
            Some(Value::Map(entries.collect()))
        })
    }
    let numbered = |n: usize| move || (0..n).map(|i| (i.to_string(), String::new())).collect();
    let one = |key: String, value: String| move || vec![(key.clone(), value.clone())];
    vec![
        entries("21 entries", numbered(21)),
        entries("10,001 entries", numbered(10_001)),
        entries("an empty key", one(String::new(), "v".into())),
        entries("a key of 65 characters", one("k".repeat(65), "v".into())),
        entries("a key with NUL", one("k\0".into(), "v".into())),
        entries("a value of 257 characters", one("k".into(), "v".repeat(257))),
        entries("a value with a line break", one("k".into(), "a\nb".into())),
        entries("a value in another script", one("k".into(), "\u{202b}שלום\u{202c} 🧾".into())),
    ]
}

fn repeated() -> Vec<(String, Edit)> {
    let times = |n: usize| move |now: &Value| Some(Value::List(vec![now.as_list()?.first()?.clone(); n]));
    vec![edit("empty", |_| None), edit("10,001 of them", times(10_001)), edit("the same twice", times(2))]
}

fn is_time(message: &MessageDescriptor) -> bool {
    ["google.protobuf.Timestamp", "google.protobuf.Duration"].contains(&message.full_name())
}

fn one(field: &FieldDescriptor, now: &Value) -> Vec<(String, Edit)> {
    match field.kind() {
        Kind::String => {
            let name = field.name().to_owned();
            let hows = strings(&name, now.as_str().unwrap_or_default());
            let nth = |(n, (how, _)): (usize, (&str, String))| {
                let name = name.clone();
                edit(how, move |now| Some(Value::String(strings(&name, now.as_str()?).swap_remove(n).1)))
            };
            hows.into_iter().enumerate().map(nth).collect()
        }
        Kind::Int64 => [("0", 0), ("-1", -1), ("the least", i64::MIN), ("the most", i64::MAX)]
            .map(|(how, n)| to(how, Value::I64(n)))
            .to_vec(),
        Kind::Int32 => [("0", 0), ("-1", -1), ("501", 501), ("the least", i32::MIN), ("the most", i32::MAX)]
            .map(|(how, n)| to(how, Value::I32(n)))
            .to_vec(),
        Kind::Uint32 => [("0", 0), ("the most", u32::MAX)].map(|(how, n)| to(how, Value::U32(n))).to_vec(),
        Kind::Enum(_) => [("unspecified", 0), ("999", 999), ("-1", -1)]
            .map(|(how, n)| to(how, Value::EnumNumber(n)))
            .to_vec(),
        Kind::Message(described) => {
            let missing = edit("missing", |_| None);
            let times = if is_time(&described) { times() } else { Vec::new() };
            std::iter::once(missing).chain(times).collect()
        }
        // Both of its values are good.
        Kind::Bool => Vec::new(),
        other => panic!("no bad values for {other:?} of {}", field.name()),
    }
}

/// Seconds and nanoseconds that are out of range, and for a duration too long.
fn times() -> Vec<(String, Edit)> {
    [
        ("negative", -1, 0),
        ("31 s", 31, 0),
        ("the year 10000", 253_402_300_800, 0),
        ("the most seconds", i64::MAX, 0),
        ("the least seconds", i64::MIN, 0),
        ("a whole second of nanoseconds", 4_000_000_000, 1_000_000_000),
        ("negative nanoseconds", 4_000_000_000, -1),
        ("the least nanoseconds", 4_000_000_000, i32::MIN),
    ]
    .map(|(how, seconds, nanos)| {
        edit(how, move |now| {
            let mut time = now.as_message()?.clone();
            time.set_field_by_name("seconds", Value::I64(seconds));
            time.set_field_by_name("nanos", Value::I32(nanos));
            Some(Value::Message(time))
        })
    })
    .to_vec()
}

fn strings(name: &str, now: &str) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("empty", String::new()),
        ("a space", " ".into()),
        ("10,000 characters", "x".repeat(10_000)),
        ("NUL inside", format!("{now}\0")),
        ("a line break", "a\nb".into()),
        ("an escape", "\u{1b}[2J".into()),
        ("another script", "\u{202b}שלום\u{202c} 🧾".into()),
        ("SQL", "'; drop table orders.price; --".into()),
        ("a path", "../../etc/passwd".into()),
    ];
    if is_id(now) {
        let (prefix, rest) = now.split_once('_').unwrap();
        all.extend([
            ("another kind", format!("who_{rest}")),
            ("a long prefix that is not ASCII", format!("{}_{rest}", "é".repeat(40))),
            ("no prefix", rest.to_owned()),
            ("one character less", now[..now.len() - 1].to_owned()),
            ("one character more", format!("{now}0")),
            ("capitals", now.to_uppercase()),
            ("more than 128 bits", format!("{prefix}_8{}", &rest[1..])),
            ("nil", format!("{prefix}_{}", "0".repeat(26))),
            ("nobody's", format!("{prefix}_{}zzzz", &rest[..22])),
            ("a UUID", "01890c8e-9af7-78aa-bc3b-bd1eef28d881".into()),
        ]);
    }
    match name {
        "currency_code" => all.extend([
            ("small letters", now.to_lowercase()),
            ("no such currency", "ZZZ".into()),
            ("gold", "XAU".into()),
            ("a number", "978".into()),
            ("another one", "USD".into()),
        ]),
        "page_token" => all.extend([
            ("nonsense", "nonsense".into()),
            ("16 characters that seal nothing", "0123456789abcdef".into()),
            ("another list's", proto::page::token(&["somewhere", "else"], "5")),
            ("1,025 characters", "ab".repeat(513)),
            ("not ASCII in the middle", format!("0123456789abcde\u{e9}{}", "ab".repeat(8))),
        ]),
        "delivery_id" => all.extend([
            ("nil", "00000000-0000-0000-0000-000000000000".into()),
            ("nobody's", "01890c8e-9af7-78aa-bc3b-bd1eef28d881".into()),
            ("half a UUID", "01890c8e-9af7".into()),
        ]),
        "account_id" => all.extend([
            ("no currency", "merchant:m_1".into()),
            ("no merchant", "merchant::EUR".into()),
            ("too many parts", "merchant:m_1:EUR:x".into()),
            ("no such house account", "petty_cash:EUR".into()),
            ("small letters", now.to_lowercase()),
            ("nobody's", "merchant:nobody:EUR".into()),
        ]),
        "request_id" => all.extend([("256 characters", "r".repeat(256)), ("not ASCII", "réq".into())]),
        "token" => all.extend([
            ("a card number", "4242424242424242".into()),
            ("a card number in groups", "4242-4242-4242-4242".into()),
            ("65 characters", format!("tok_{}", "x".repeat(61))),
            ("no such token", "tok_nobody_knows".into()),
        ]),
        _ => {}
    }
    all
}

fn is_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, rest)| {
        ["ord", "saga", "pay", "rsv", "txn"].contains(&prefix) && rest.len() == 26
    })
}

/// Bytes that are no such message: what is bad about them, how, and the bytes.
#[must_use]
pub fn bytes(good: &DynamicMessage) -> Vec<(String, String, Vec<u8>)> {
    let whole = good.encode_to_vec();
    let after = |more: &[u8]| [whole.as_slice(), more].concat();
    let mut all = Vec::new();
    let mut say = |how: &str, body: Vec<u8>| {
        all.push(("(message)".into(), how.to_owned(), body));
    };
    if !whole.is_empty() {
        say("without its last byte", whole[..whole.len() - 1].to_vec());
    }
    say("a field without a value", after(&[0x0a]));
    say("a length of 2 GiB", after(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]));
    say(
        "a number of eleven bytes",
        after(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    );
    say("a group without an end", after(&[0x0b]));
    say("the end of a group without a beginning", after(&[0x0c]));
    say("a wire type that does not exist", after(&[0x0f]));
    say("field number 0", after(&[0x02, 0x00]));
    say("a field that nobody knows", after(&[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01]));
    for field in good.descriptor().fields() {
        let mut body = whole.clone();
        let (wrong, value): (WireType, &[u8]) = match field.kind().wire_type() {
            prost_reflect::prost::encoding::WireType::LengthDelimited => (WireType::Varint, &[1]),
            _ => (WireType::LengthDelimited, &[3, b'a', b'b', b'c']),
        };
        // A repeated number may come packed, which is another wire type that is right; there is none such here.
        assert!(field.cardinality() != Cardinality::Repeated || !field.is_packed(), "{}", field.name());
        encode_key(field.number(), wrong, &mut body);
        body.put_slice(value);
        all.push((field.name().to_owned(), "another wire type".into(), body));
    }
    for (path, tail) in not_utf8(&good.descriptor(), 0) {
        all.push((path, "not UTF-8".into(), after(&tail)));
    }
    all
}

/// For every text field, at whatever depth: bytes that say it again, and not in UTF-8.
fn not_utf8(message: &MessageDescriptor, depth: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for field in message.fields() {
        let mut say = |path: String, value: &[u8]| {
            let mut bytes = Vec::new();
            encode_key(field.number(), WireType::LengthDelimited, &mut bytes);
            encode_varint(value.len() as u64, &mut bytes);
            bytes.put_slice(value);
            all.push((path, bytes));
        };
        match field.kind() {
            Kind::String => say(field.name().to_owned(), &[b'a', 0xff, 0xfe]),
            Kind::Message(nested) if depth < 4 => {
                for (path, value) in not_utf8(&nested, depth + 1) {
                    say(format!("{}.{path}", field.name()), &value);
                }
            }
            _ => {}
        }
    }
    all
}
