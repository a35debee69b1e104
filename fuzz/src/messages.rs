//! What comes by message: the envelope as AMQP carries it, and what each queue's consumer reads.

use chassis::bus::{Exchange, Message, Queue, amqp::doors, header};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};
use prost::{Message as _, Name};
use proto::{
    inventory::v1::ReleaseItem,
    ledger::v1::ReverseItem,
    order::v1::{CancelItem, OrderChanged},
    payment::v1::{PaymentRefunded, RefundItem},
    risk::v1::WithdrawItem,
    step::{DEAD_NOTICE, STEP_ANSWER},
};
use uuid::Uuid;

use crate::{steps::balanced, verdict::text_says_why};

/// Takes bytes apart: a length, then so many.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    fn number(&mut self) -> i64 {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = self.byte();
        }
        i64::from_be_bytes(bytes)
    }

    fn short(&mut self) -> ShortString {
        ShortString::try_new(self.text().chars().take(60).collect::<String>()).unwrap_or_default()
    }

    fn value(&mut self) -> AMQPValue {
        match self.byte() % 10 {
            0 => AMQPValue::ShortString(self.short()),
            1 => AMQPValue::LongLongInt(self.number()),
            2 => AMQPValue::LongInt(i32::from_be_bytes([self.byte(), 0, 0, self.byte()])),
            3 => AMQPValue::LongUInt(u32::from(self.byte()) << 24),
            4 => AMQPValue::ShortShortInt(i8::from_be_bytes([self.byte()])),
            5 => AMQPValue::Boolean(true),
            6 => AMQPValue::Timestamp(self.number().unsigned_abs()),
            7 => AMQPValue::Void,
            _ => AMQPValue::LongString(self.bytes().to_vec().into()),
        }
    }

    fn properties(&mut self) -> BasicProperties {
        let present = self.byte();
        let mut properties = BasicProperties::default();
        if present & 1 == 0 {
            properties = properties.with_message_id(self.short());
        }
        if present & 2 == 0 {
            properties = properties.with_type(self.short());
        }
        if present & 4 != 0 {
            properties = properties.with_app_id(self.short());
        }
        if present & 8 != 0 {
            properties = properties.with_timestamp(self.number().unsigned_abs());
        }
        let mut headers = FieldTable::default();
        for _ in 0..self.byte() % 8 {
            let name = self.short();
            headers.insert(name, self.value());
        }
        properties.with_headers(headers)
    }
}

fn queue() -> Queue {
    Queue::commands("inventory")
}

/// A delivery: exchange, routing key, properties, body.
pub(crate) fn envelope(data: &[u8]) {
    let mut cursor = Cursor(data);
    let exchange = match cursor.byte() % 5 {
        0 => "amends.commands".into(),
        1 => "amends.replies".into(),
        2 => "amends.events".into(),
        3 => "".into(),
        _ => cursor.short(),
    };
    let routing_key = cursor.short();
    let properties = cursor.properties();
    let mut delivery = Delivery::mock(1, exchange, routing_key, false, cursor.0.to_vec());
    delivery.properties = properties;
    let message = match doors::read(&delivery) {
        Ok(message) => message,
        Err(why) => {
            text_says_why(&why);
            let dead = doors::dead_raw(&delivery, &queue());
            let headers = dead.headers().clone().unwrap_or_default();
            assert!(headers.inner().contains_key(header::REASON));
            assert_eq!(
                (dead.message_id(), dead.kind()),
                (delivery.properties.message_id(), delivery.properties.kind())
            );
            return;
        }
    };
    assert!(!message.kind.is_empty());
    let notice = message.dead_notice("why");
    assert_eq!(notice.id, message.dead_notice("again").id, "saying it twice says it once");
    // Whatever could be read can go on, in every way, and comes out as it went in.
    let ways = doors::ways_on(&message, &queue()).expect("what came by AMQP can go by AMQP");
    for (way, delivered) in ways.iter().enumerate() {
        let mut read = doors::read(delivered).expect("what we publish can be read");
        read.headers.remove(header::REASON);
        let mut sent = message.clone();
        sent.headers.remove(header::REASON);
        sent.attempt = if way == 2 { sent.attempt.saturating_add(1) } else { sent.attempt };
        // To the microsecond, and in years that RFC 3339 can write.
        sent.time = read.time;
        assert_eq!(read, sent, "way {way}");
    }
}

/// A message of this kind (or, the first byte odd, of a stranger's), with this body.
fn of_kind(kind: &str, data: &[u8]) -> Option<Message> {
    let (&first, body) = data.split_first()?;
    let kind = if first % 2 == 1 { "amends.odd.v1.Odd" } else { kind };
    let mut message = Message::new(Exchange::Commands, "somebody", kind, "test", body.to_vec());
    message.id = Uuid::from_u128(7);
    Some(message)
}

fn judge<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    data: &[u8],
    read: impl Fn(&Message) -> Result<T, String>,
) -> Option<T> {
    let message = of_kind(kind, data)?;
    let outcome = read(&message);
    assert_eq!(outcome, read(&message));
    assert!(outcome.is_err() || message.kind == kind, "a stranger was taken");
    outcome.inspect_err(|why| text_says_why(why)).ok()
}

pub(crate) fn order_commands(data: &[u8]) {
    judge(&CancelItem::full_name(), data, order_svc::doors::command);
}

pub(crate) fn inventory_commands(data: &[u8]) {
    judge(&ReleaseItem::full_name(), data, inventory_svc::doors::command);
}

pub(crate) fn payment_commands(data: &[u8]) {
    judge(&RefundItem::full_name(), data, payment_svc::doors::command);
}

pub(crate) fn ledger_commands(data: &[u8]) {
    judge(&ReverseItem::full_name(), data, ledger_svc::doors::command);
}

pub(crate) fn risk_commands(data: &[u8]) {
    judge(&WithdrawItem::full_name(), data, risk_svc::doors::command);
}

pub(crate) fn ledger_events(data: &[u8]) {
    if let Some((_, entries)) = judge(&PaymentRefunded::full_name(), data, ledger_svc::doors::event) {
        balanced(&entries);
    }
}

pub(crate) fn notification_events(data: &[u8]) {
    let Some((_, letter)) = judge(&OrderChanged::full_name(), data, notification_svc::doors::event) else {
        return;
    };
    let Some((recipient, subject)) = letter else { return };
    // A line break in either would be another header of the letter.
    assert!(!recipient.chars().chain(subject.chars()).any(char::is_control), "{recipient:?} {subject:?}");
    assert_eq!(recipient.matches('@').count(), 1, "{recipient}");
}

/// The queue of answers: an answer's body or, the first byte from 128, the four headers of a notice.
pub(crate) fn replies(data: &[u8]) {
    if data.first().is_none_or(|first| *first < 128) {
        judge(STEP_ANSWER, data, orchestrator::doors::reply);
        return;
    }
    let mut cursor = Cursor(&data[1..]);
    let mut message = Message::new(Exchange::Replies, "orchestrator", DEAD_NOTICE, "test", Vec::new());
    for name in [header::SAGA, header::STEP, header::COMMAND_ID, header::REASON] {
        message = message.with(name, cursor.text());
    }
    match orchestrator::doors::reply(&message) {
        Ok((id, _)) => assert_eq!(id, message.id),
        Err(why) => text_says_why(&why),
    }
}

/// A step's …Done message: a step, then the bytes.
pub(crate) fn step_output(data: &[u8]) {
    let Some((&step, done)) = data.split_first() else { return };
    match orchestrator::doors::output(usize::from(step % 7), done) {
        // What is stored can be given by a person as well.
        Ok(stored) => assert_eq!(orchestrator::doors::resolved(usize::from(step % 7), &stored), Ok(stored)),
        Err(why) => text_says_why(&why),
    }
}

pub(crate) mod seeds {
    use proto::{
        money::Money,
        order::v1::OrderStatus,
        step::{StepAnswer, step_answer::Outcome},
    };

    use super::*;
    use crate::steps::seeds::header;

    const ORDER: &str = "ord_01h2xcejqtf2nbrexx3vqjhp41";
    const SAGA: &str = "saga_01h2xcejqtf2nbrexx3vqjhp41";

    fn short(text: &str) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    pub(crate) fn envelope() -> Vec<Vec<u8>> {
        let id = short("0188bac7-4afa-78aa-bc3b-bd1eef28d881");
        let plain =
            [&[0][..], &short("inventory"), &[0], &id, &short("amends.x.v1.X"), &[0], b"body"].concat();
        let attempt = [&short("x-attempt")[..], &[1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]].concat();
        let saga = [&short("amends-saga")[..], &[8], &short(SAGA)].concat();
        let came = [&short("amends-exchange")[..], &[8], &short("events")].concat();
        let time = [&short("amends-time")[..], &[8], &short("2026-01-01T00:00:00.5Z")].concat();
        let climbed = [
            &[3][..],
            &short("q"),
            &[0x0c],
            &id,
            &short("k"),
            &short("order"),
            &[0, 0, 0, 0, 0x60, 0, 0, 0],
            &[4],
            &attempt,
            &saga,
            &came,
            &time,
            b"x",
        ]
        .concat();
        vec![plain, climbed]
    }

    fn command<I: prost::Message>(item: &I) -> Vec<Vec<u8>> {
        let body = item.encode_to_vec();
        vec![[&[0][..], &body].concat(), [&[1][..], &body].concat()]
    }

    pub(crate) fn order_commands() -> Vec<Vec<u8>> {
        let (header, order_id) = (header("open"), ORDER.into());
        command(&CancelItem { header, order_id, reason: "why".into(), history: Vec::new() })
    }

    pub(crate) fn inventory_commands() -> Vec<Vec<u8>> {
        command(&ReleaseItem { header: header("reserve"), order_id: ORDER.into(), reason: "why".into() })
    }

    pub(crate) fn payment_commands() -> Vec<Vec<u8>> {
        command(&RefundItem { header: header("charge"), order_id: ORDER.into(), reason: "why".into() })
    }

    pub(crate) fn ledger_commands() -> Vec<Vec<u8>> {
        command(&ReverseItem { header: header("post"), order_id: ORDER.into(), reason: "why".into() })
    }

    pub(crate) fn risk_commands() -> Vec<Vec<u8>> {
        command(&WithdrawItem { header: header("screen"), order_id: ORDER.into(), reason: "why".into() })
    }

    fn money() -> Option<Money> {
        Some(Money { minor_units: 1200, currency_code: "EUR".into() })
    }

    pub(crate) fn ledger_events() -> Vec<Vec<u8>> {
        command(&PaymentRefunded {
            payment_id: "pay_01h2xcejqtf2nbrexx3vqjhp41".into(),
            saga_id: SAGA.into(),
            step: "charge".into(),
            order_id: ORDER.into(),
            merchant_id: "m_1".into(),
            amount: money(),
            provider_reference: "p".into(),
            refund_reference: "r".into(),
        })
    }

    pub(crate) fn notification_events() -> Vec<Vec<u8>> {
        [OrderStatus::Completed, OrderStatus::Cancelled, OrderStatus::UnderReview]
            .into_iter()
            .flat_map(|status| {
                command(&OrderChanged {
                    order_id: ORDER.into(),
                    saga_id: SAGA.into(),
                    status: status.into(),
                    status_reason: "CARD_DECLINED".into(),
                    customer_id: "c_1".into(),
                    merchant_id: "m_1".into(),
                    total: money(),
                    version: 3,
                    ..OrderChanged::default()
                })
            })
            .collect()
    }

    pub(crate) fn replies() -> Vec<Vec<u8>> {
        let answer = |outcome| StepAnswer {
            saga_id: SAGA.into(),
            step: "reserve".into(),
            outcome: Some(outcome),
            ..StepAnswer::default()
        };
        let notice = [&[128][..], &short(SAGA), &short("reserve"), &short("7"), &short("why")].concat();
        let done = command(&answer(Outcome::Done(vec![1, 2])));
        let not_applied = command(&answer(Outcome::NotApplied(proto::step::NotApplied {})));
        [vec![notice], done, not_applied].concat()
    }

    pub(crate) fn step_output() -> Vec<Vec<u8>> {
        let done = proto::payment::v1::ChargeDone {
            payment_id: "pay_01h2xcejqtf2nbrexx3vqjhp41".into(),
            provider_reference: "sim_1".into(),
        };
        let body = done.encode_to_vec();
        (0..5).map(|step| [&[step][..], &body].concat()).collect()
    }
}
