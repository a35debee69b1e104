//! Ids: a UUIDv7 inside, shown as a TypeID (`ord_…`, <https://github.com/jetify-com/typeid> 0.3) outside.

use std::{fmt, str::FromStr};

use type_safe_id::DynamicType;
use uuid::Uuid;

use crate::StepName;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a TypeID at all.
    #[error("`{text}` is not an id: expected `{expected}_` and 26 characters")]
    Malformed {
        /// What was given, cut to 64 characters.
        text: String,
        /// The prefix that was expected.
        expected: &'static str,
    },
    /// A TypeID of something else.
    #[error("`{text}` is an id of another kind: expected `{expected}_…`")]
    WrongKind {
        /// What was given.
        text: String,
        /// The prefix that was expected.
        expected: &'static str,
    },
}

fn parse(text: &str, expected: &'static str, also: &[&str]) -> Result<Uuid, IdError> {
    let shown = || text.chars().take(64).collect::<String>();
    let malformed = || IdError::Malformed { text: shown(), expected };
    // type-safe-id 0.3.3 cuts a prefix that is too long at its 63rd byte, and panics where that is within a character.
    if !text.is_ascii() {
        return Err(malformed());
    }
    let id = type_safe_id::TypeSafeId::<DynamicType>::from_str(text).map_err(|_| malformed())?;
    let prefix = id.type_prefix();
    if prefix == expected || also.contains(&prefix) {
        Ok(id.uuid())
    } else {
        Err(IdError::WrongKind { text: shown(), expected })
    }
}

fn show(f: &mut fmt::Formatter<'_>, prefix: &'static str, uuid: Uuid) -> fmt::Result {
    let prefix = DynamicType::new(prefix).map_err(|_| fmt::Error)?;
    write!(f, "{}", type_safe_id::TypeSafeId::from_type_and_uuid(prefix, uuid))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, also $also:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps the bytes as they are.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bytes, as a database keeps them.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                show(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                show(f, $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix, $also).map(Self)
            }
        }
    };
}

id!(
    /// An order. Its saga has the same UUID.
    OrderId, "ord", also &[]
);
id!(
    /// A saga. Reads `ord_…` as well, because an order and its saga share the UUID.
    SagaId, "saga", also &["ord"]
);
id!(
    /// A charge at payment-svc.
    PaymentId, "pay", also &[]
);
id!(
    /// A reservation at inventory-svc.
    ReservationId, "rsv", also &[]
);
id!(
    /// A ledger transaction.
    TransactionId, "txn", also &[]
);

impl OrderId {
    /// The saga that makes this order.
    #[must_use]
    pub const fn saga(self) -> SagaId {
        SagaId(self.0)
    }
}

impl SagaId {
    /// The order that this saga makes.
    #[must_use]
    pub const fn order(self) -> OrderId {
        OrderId(self.0)
    }

    /// An id that follows from (saga, step), so that every build and every repeat finds the same (UUIDv5).
    #[must_use]
    pub fn derive(self, step: &StepName) -> Uuid {
        Uuid::new_v5(&self.0, step.as_str().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_and_its_saga_share_the_uuid() {
        let order = OrderId::from_uuid(Uuid::from_u128(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881));
        assert_eq!(order.to_string(), "ord_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!(order.to_string().parse::<SagaId>().unwrap(), order.saga());
        assert!(order.saga().to_string().parse::<OrderId>().is_err());
    }

    #[test]
    fn a_derived_id_is_stable_and_reads_back() {
        let saga = SagaId::from_uuid(Uuid::from_u128(7));
        let step: StepName = "charge".parse().unwrap();
        let payment = PaymentId::from_uuid(saga.derive(&step));
        assert_eq!(payment, PaymentId::from_uuid(saga.derive(&step)));
        assert_eq!(payment.to_string().parse::<PaymentId>().unwrap(), payment);
    }

    #[test]
    fn bad_texts_say_what_was_expected() {
        for bad in [
            "",
            "ord_",
            "ord_01h2xcejqtf2nbrexx3vqjhp4",
            "ORD_01h2xcejqtf2nbrexx3vqjhp41",
            "ord_81h2xcejqtf2nbrexx3vqjhp41\0",
            &format!("{}_", "é".repeat(40)),
            &format!("{}_01h2xcejqtf2nbrexx3vqjhp41", "o".repeat(70)),
        ] {
            assert!(matches!(bad.parse::<OrderId>(), Err(IdError::Malformed { .. })), "{bad:?}");
        }
        assert!(matches!(
            "pay_01h2xcejqtf2nbrexx3vqjhp41".parse::<OrderId>(),
            Err(IdError::WrongKind { expected: "ord", .. })
        ));
    }
}
