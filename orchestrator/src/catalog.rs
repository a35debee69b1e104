//! The saga kinds: one file each, and the registry that finds them by kind and version.
//!
//! A kind's file holds its table, its input, its typed step outputs and its conversions to messages. The engine knows
//! none of them: it asks the [`Registry`].

pub mod order;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use chassis::bus::Message;
use proto::step::StepHeader;
use types::SagaId;

use self::order::OrderSaga;
use crate::{
    participants::Call,
    saga::{Definition, State, Why, definition::DefinitionError},
    settings::Settings,
};

/// What the projection of a saga shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// As in `COMPLETED`.
    pub status: &'static str,
    /// Somebody wants it taken back.
    pub cancel_requested: bool,
    /// Why it went the other way, or what it waits for. Most orders have none, and each order in memory has a place for it.
    pub why: Option<Box<Why>>,
}

impl Projection {
    /// Why, UPPER_SNAKE; empty where there is nothing to say.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.why.as_ref().map_or("", |why| &why.reason)
    }

    /// Details of it.
    #[must_use]
    pub fn metadata(&self) -> Cow<'_, BTreeMap<String, String>> {
        self.why.as_ref().map_or_else(|| Cow::Owned(BTreeMap::new()), |why| Cow::Borrowed(&why.metadata))
    }
}

/// Why a stored saga or an outcome given by a person cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The stored input is not one of this kind.
    #[error("the stored input cannot be read: {0}")]
    Input(String),
    /// An output is not one of this step.
    #[error("the output of {step} cannot be read: {why}")]
    Output {
        /// The step.
        step: String,
        /// What is wrong.
        why: String,
    },
}

/// A definition that this build does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no definition {name}: this build knows {known}")]
pub struct UnknownDefinition {
    name: String,
    known: String,
}

/// What the engine asks a saga kind. Steps are positions in the definition.
pub trait Kind: Send + Sync + 'static {
    /// Its table.
    fn definition(&self) -> &Definition;

    /// The table's [`Definition::hash`], which is asked for with every order: whoever can, remembers it.
    fn hash(&self) -> i64 {
        self.definition().hash()
    }

    /// Reads what a saga is about, as it was stored with its start.
    ///
    /// # Errors
    /// When it is not an input of this kind.
    fn read(self: Arc<Self>, saga: SagaId, input: &str) -> Result<Box<dyn Content>, CatalogError>;

    /// The message of the command that takes a step back. It needs nothing of the input: what was done is taken back, whether
    /// that can be read or not.
    ///
    /// # Errors
    /// When the step has none.
    fn command(&self, step: usize, header: StepHeader, state: &State) -> Result<Message, CatalogError>;

    /// Reads the step's encoded …Done message as the output that the journal stores.
    ///
    /// # Errors
    /// When it is not one.
    fn output(&self, step: usize, done: &[u8]) -> Result<String, CatalogError>;

    /// Checks an output that a person gave, as JSON.
    ///
    /// # Errors
    /// When it is not one of this step.
    fn typed(&self, step: usize, json: &str) -> Result<String, CatalogError>;

    /// What the projection shows.
    fn project(&self, state: &State) -> Projection;
}

/// What one saga is about: its input, read once, and the calls and events that follow from it.
pub trait Content: Send + Sync {
    /// The call of a step: a pure function of the input and earlier outputs.
    ///
    /// # Errors
    /// When there is no such step, or an output that it needs cannot be read.
    fn call(&self, step: usize, header: StepHeader, state: &State) -> Result<Call, CatalogError>;

    /// The event that tells the world of a new status, if it does.
    fn announce(&self, projection: &Projection, version: i64, at: i64) -> Option<Message>;
}

/// All kinds and versions that this build can drive.
#[derive(Clone)]
pub struct Registry {
    kinds: Arc<Vec<Known>>,
}

/// A kind, with what it is found by.
#[derive(Clone)]
struct Known {
    kind: Arc<dyn Kind>,
    /// As the instance row lists it: `order:1`.
    listed: String,
}

impl Known {
    fn new(kind: Arc<dyn Kind>) -> Self {
        let definition = kind.definition();
        Self { listed: format!("{}:{}", definition.kind, definition.version), kind }
    }
}

impl Registry {
    /// Every kind and version of this build.
    ///
    /// # Errors
    /// What is wrong with the first whose definition does not hold.
    pub fn all(settings: &Settings) -> Result<Self, DefinitionError> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let orders = OrderSaga::all(millis(settings.order_deadline), millis(settings.answer_after));
        let orders = orders.into_iter().map(|order| order.with_call_time(millis(settings.call_timeout)));
        Self::new(orders.map(|order| Arc::new(order) as Arc<dyn Kind>).collect())
    }

    /// Takes kinds whose definitions hold.
    ///
    /// # Errors
    /// What is wrong with the first that does not.
    pub fn new(kinds: Vec<Arc<dyn Kind>>) -> Result<Self, DefinitionError> {
        for kind in &kinds {
            kind.definition().check()?;
        }
        Ok(Self { kinds: Arc::new(kinds.into_iter().map(Known::new).collect()) })
    }

    /// Confined to these, as in `order:1`; to nothing less when the list is empty.
    ///
    /// # Errors
    /// The first that this build does not know.
    pub fn only(self, names: &[String]) -> Result<Self, UnknownDefinition> {
        if names.is_empty() {
            return Ok(self);
        }
        let listed = self.listed();
        if let Some(unknown) = names.iter().find(|name| !listed.contains(name)) {
            return Err(UnknownDefinition { name: unknown.clone(), known: listed.join(", ") });
        }
        let kinds = self.kinds.iter().filter(|known| names.contains(&known.listed));
        Ok(Self { kinds: Arc::new(kinds.cloned().collect()) })
    }

    /// The kind with this name, version and hash.
    #[must_use]
    pub fn find(&self, kind: &str, version: i32, hash: i64) -> Option<Arc<dyn Kind>> {
        self.kinds()
            .find(|k| {
                let d = k.definition();
                d.kind == kind && i64::from(d.version) == i64::from(version) && k.hash() == hash
            })
            .cloned()
    }

    /// Each of them, the older versions of a kind first.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.kinds.iter().map(|known| &known.kind)
    }

    /// As the instance row lists them: `order:1`.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        self.kinds.iter().map(|known| known.listed.clone()).collect()
    }

    /// The newest version of a kind that every living instance lists; `alive` are their lists.
    ///
    /// Before anybody has looked who is alive it is the oldest: every instance knows that one.
    #[must_use]
    pub fn newest(&self, kind: &str, alive: &[Vec<String>]) -> Option<Arc<dyn Kind>> {
        if alive.is_empty() {
            let known = self.kinds().filter(|k| k.definition().kind == kind);
            return known.min_by_key(|k| k.definition().version).cloned();
        }
        self.kinds
            .iter()
            .filter(|known| known.kind.definition().kind == kind)
            .filter(|known| alive.iter().all(|list| list.contains(&known.listed)))
            .max_by_key(|known| known.kind.definition().version)
            .map(|known| Arc::clone(&known.kind))
    }
}
