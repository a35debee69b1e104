//! Bad input at scale: every method, every field, every kind of bad value, over real gRPC.
//!
//! Generated from the descriptors, so a new field is in the table by being there. Each case: never INTERNAL or UNKNOWN,
//! the field is named, and no row of any table has changed. What is legal after all is listed, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{
    World,
    doors::{
        Method, bad,
        call::{Answer, Call, is_invalid},
        exceptions::{EXCEPTIONS, Expect, exception},
        good::{self, Shop},
        prints::{Camera, Prints, changed},
        transport,
    },
};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use proto::step::turned_away;
use tonic::Code;

/// A world with a shop in it, and what was found.
struct Table {
    world: World,
    shop: Shop,
    camera: Camera,
    rest: Prints,
    cases: BTreeMap<&'static str, usize>,
    used: BTreeSet<usize>,
    wrong: Vec<String>,
}

impl Table {
    async fn lay() -> Self {
        let world = World::local().await;
        let shop = Shop::open(&world).await;
        let mut camera = Camera::of(&world).await;
        let rest = camera.at_rest().await;
        Self { world, shop, camera, rest, cases: BTreeMap::new(), used: BTreeSet::new(), wrong: Vec::new() }
    }

    async fn good(&mut self, method: &Method) -> DynamicMessage {
        let request = self.shop.request(&self.world, method).await;
        self.rest = self.camera.at_rest().await;
        request
    }

    async fn send(&self, method: &Method, body: &[u8]) -> Answer {
        Call::of(method, body).send(method.callee(&self.world)).await
    }

    /// The service serves.
    async fn serves(&mut self, method: &Method) {
        let request = self.good(method).await;
        let answer = self.send(method, &request.encode_to_vec()).await;
        assert_eq!(answer.code(), good::answers(method), "{}: {answer:?}", method.name());
        assert_eq!(answer.turned_away(method).filter(|_| method.is_step()), None, "{}", method.name());
        self.rest = self.camera.at_rest().await;
    }

    async fn judge(&mut self, method: &Method, case: &str, answer: &Answer, expect: Expect, field: &str) {
        let verdict = verdict(method, answer, expect, field);
        let now = match expect {
            Expect::Legal if !method.only_reads() => self.camera.at_rest().await,
            _ => self.camera.take().await,
        };
        let stored = changed(&self.rest, &now);
        if let Err(why) = verdict {
            self.wrong.push(format!("{} {case}: {why}", method.name()));
        }
        if !stored.is_empty() && (expect != Expect::Legal || method.only_reads()) {
            self.wrong.push(format!("{} {case}: stored in {stored:?}", method.name()));
        }
        self.rest = now;
    }

    async fn values(&mut self, method: &Method) {
        let mut request = self.good(method).await;
        for bad in bad::values(&request) {
            let (field, how) = (&bad.field, &bad.how);
            let body = bad.of(&request).unwrap().encode_to_vec();
            let answer = self.send(method, &body).await;
            let found = exception(&method.name(), field, how);
            self.used.extend(found);
            let expect = found.map_or(Expect::Refused, |at| EXCEPTIONS[at].expect);
            self.judge(method, &format!("{field}: {how}"), &answer, expect, field).await;
            *self.cases.entry("values").or_default() += 1;
            // What was taken may have used the request up.
            if expect == Expect::Legal && !method.only_reads() {
                request = self.good(method).await;
            }
        }
    }

    async fn bytes(&mut self, method: &Method) {
        let request = self.good(method).await;
        for (field, how, body) in bad::bytes(&request) {
            let answer = self.send(method, &body).await;
            let is_newer = how == "a field that nobody knows";
            let expect = if is_newer { Expect::Legal } else { Expect::Names("(message)") };
            self.judge(method, &format!("{field}: {how}"), &answer, expect, "(message)").await;
            *self.cases.entry("bytes").or_default() += 1;
        }
    }

    async fn transport(&mut self, method: &Method) {
        let mut request = self.good(method).await.encode_to_vec();
        for odd in transport::calls(method, &request) {
            // Built again where the one before was taken.
            let call =
                transport::calls(method, &request).into_iter().find(|o| o.how == odd.how).unwrap().call;
            let answer = call.send(method.callee(&self.world)).await;
            let expect = odd.code.map_or(Expect::Legal, Expect::Code);
            self.judge(method, odd.how, &answer, expect, "(message)").await;
            *self.cases.entry("transport").or_default() += 1;
            if expect == Expect::Legal && !method.only_reads() {
                request = self.good(method).await.encode_to_vec();
            }
        }
    }

    /// An exception that nothing needs any more would hide what comes later.
    fn every_exception_is_needed(&mut self, of_steps: bool) {
        for (at, exception) in EXCEPTIONS.iter().enumerate() {
            if exception.is_of_steps() == of_steps && !self.used.contains(&at) {
                self.wrong.push(format!("nothing needs {exception:?}"));
            }
        }
    }

    fn end(self, begun: std::time::Instant) -> World {
        let cases: usize = self.cases.values().sum();
        eprintln!("bad input: {cases} cases {:?} in {:.1} s", self.cases, begun.elapsed().as_secs_f64());
        assert!(self.wrong.is_empty(), "{} of {cases}:\n{}", self.wrong.len(), self.wrong.join("\n"));
        self.world
    }
}

/// Whether one path is the other, or one stands in the other.
fn stands_in(field: &str, named: &str) -> bool {
    let below =
        |whole: &str, part: &str| whole.strip_prefix(part).is_some_and(|rest| rest.starts_with(['.', '[']));
    field == named || (!named.is_empty() && (below(field, named) || below(named, field)))
}

fn verdict(method: &Method, answer: &Answer, expect: Expect, field: &str) -> Result<(), String> {
    let away = if method.is_step() { answer.turned_away(method) } else { None };
    let ours = [
        Code::Internal,
        Code::Unknown,
        Code::Unavailable,
        Code::DataLoss,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::OutOfRange,
    ];
    if ours.contains(&answer.code()) {
        return Err(format!("{:?}: {}", answer.code(), answer.status.message()));
    }
    let fails = away.as_ref().is_some_and(|away| away.code() == turned_away::Code::Failed);
    if fails != (expect == Expect::Fails) {
        return Err(format!("{away:?}"));
    }
    let wanted = match expect {
        Expect::Names(other) => other,
        Expect::Refused | Expect::Legal | Expect::Fails | Expect::Code(_) => field,
    };
    match expect {
        Expect::Legal if answer.code() != good::answers(method) || away.is_some() => {
            Err(format!("expected to be legal: {:?} {} {away:?}", answer.code(), answer.status.message()))
        }
        Expect::Legal => match answer.bad_cart_of(method) {
            Some(wrong) => Err(format!("expected to be legal: {wrong:?}")),
            None => Ok(()),
        },
        Expect::Code(code) if code != answer.code() => {
            Err(format!("{:?} instead of {code:?}: {}", answer.code(), answer.status.message()))
        }
        Expect::Code(Code::Unimplemented) => Ok(()),
        Expect::Code(_) if answer.reason().is_empty() => Err("no reason in its details".into()),
        Expect::Code(_) | Expect::Fails => Ok(()),
        Expect::Refused | Expect::Names(_) => {
            names(method, answer, away.as_ref().map(|a| (is_invalid(a), a.message.as_str())), wanted)
        }
    }
}

/// Refused as invalid, where and with what a reader needs.
fn names(method: &Method, answer: &Answer, away: Option<(bool, &str)>, field: &str) -> Result<(), String> {
    if answer.code() == Code::Ok {
        let item = field.strip_prefix("items[0].").unwrap_or(field);
        let leaf = item.rsplit('.').next().unwrap_or(item);
        let begins = |text: &str| {
            let head: String = text.chars().take_while(|c| !matches!(c, ':' | ' ')).collect();
            stands_in(item, &head)
                || text.split_whitespace().any(|word| word.trim_matches([':', ',']) == leaf)
        };
        return match (away, answer.bad_cart_of(method)) {
            (Some((true, why)), _) if begins(why) => Ok(()),
            (_, Some(wrong)) if wrong.iter().any(|(named, _)| stands_in(item, named)) => Ok(()),
            (Some((_, why)), _) => Err(format!("says only: {why}")),
            (_, wrong) => Err(format!("was taken: {wrong:?}")),
        };
    }
    let fields = answer.bad_fields();
    if answer.code() != Code::InvalidArgument {
        return Err(format!("{:?}: {}", answer.code(), answer.status.message()));
    }
    if answer.reason().is_empty() || answer.status.message().is_empty() {
        return Err(format!("has no reason or no message: {answer:?}"));
    }
    if !fields.iter().any(|named| stands_in(field, named)) {
        return Err(format!("names {fields:?}: {}", answer.status.message()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_are_refused_by_name_and_store_nothing() {
    let begun = std::time::Instant::now();
    let mut table = Table::lay().await;
    for method in Method::all().iter().filter(|method| !method.is_step()) {
        table.serves(method).await;
        table.values(method).await;
        table.serves(method).await;
    }
    let cases = table.cases["values"];
    table.every_exception_is_needed(false);
    table.shop.close(&table.world).await;
    table.end(begun).audit().await;
    assert!(cases >= 300, "{cases}");
}

/// Without the auditor: these steps are of no saga, which is what it would say.
#[tokio::test(flavor = "multi_thread")]
async fn bad_items_of_steps_are_turned_away_by_name_and_store_nothing() {
    let begun = std::time::Instant::now();
    let mut table = Table::lay().await;
    for method in Method::all().iter().filter(|method| method.is_step()) {
        table.serves(method).await;
        table.values(method).await;
        table.serves(method).await;
    }
    let cases = table.cases["values"];
    table.every_exception_is_needed(true);
    table.end(begun);
    assert!(cases >= 300, "{cases}");
}

/// Without the auditor, as above.
#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_are_the_callers_mistake_and_store_nothing() {
    let begun = std::time::Instant::now();
    let mut table = Table::lay().await;
    for method in &Method::all() {
        table.bytes(method).await;
        table.serves(method).await;
    }
    table.end(begun);
}

/// Without the auditor, as above.
#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_and_headers_are_the_callers_mistake_and_store_nothing() {
    let begun = std::time::Instant::now();
    let mut table = Table::lay().await;
    for method in &Method::all() {
        table.transport(method).await;
        table.serves(method).await;
    }
    table.end(begun);
}
