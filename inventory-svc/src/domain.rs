//! The rules of stock: what can be reserved, and where it goes from there. Pure: no clock, no I/O, no message.
//!
//! A [`Shelf`] holds the stock rows that a batch has locked. Items move stock on it one after the other; what comes
//! out is one sum per SKU. `available + reserved + sold` changes by a restock only. Read next: `commands`.

use std::collections::BTreeMap;

use types::Sku;

/// Lines of an order at most.
pub const MAX_LINES: usize = 100;

/// What an order wants: each SKU once, in their order, every quantity at least 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines(Vec<(Sku, i64)>);

/// Why lines cannot be valid ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLines {
    /// None, or too many.
    #[error("lines: must be 1 to {MAX_LINES}, there are {0}")]
    Count(usize),
    /// Zero or less.
    #[error("lines[{0}].quantity: must be positive")]
    NotPositive(usize),
    /// The same SKU twice, and the sum does not fit.
    #[error("lines[{0}].quantity: the sum for its SKU is too large")]
    TooLarge(usize),
}

impl Lines {
    /// The same SKU twice is summed.
    pub fn new(given: Vec<(Sku, i64)>) -> Result<Self, BadLines> {
        if given.is_empty() || given.len() > MAX_LINES {
            return Err(BadLines::Count(given.len()));
        }
        let mut sums = BTreeMap::new();
        for (index, (sku, quantity)) in given.into_iter().enumerate() {
            if quantity <= 0 {
                return Err(BadLines::NotPositive(index));
            }
            let sum: &mut i64 = sums.entry(sku).or_default();
            *sum = sum.checked_add(quantity).ok_or(BadLines::TooLarge(index))?;
        }
        Ok(Self(sums.into_iter().collect()))
    }

    /// As they were stored: valid when they went in.
    pub const fn stored(lines: Vec<(Sku, i64)>) -> Self {
        Self(lines)
    }

    /// Each SKU with its quantity.
    pub fn iter(&self) -> impl Iterator<Item = &(Sku, i64)> {
        self.0.iter()
    }

    /// The SKUs, in their order.
    pub fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.0.iter().map(|(sku, _)| sku)
    }
}

/// Stock of one SKU, or a change of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// Free to be reserved.
    pub available: i64,
    /// Held by sagas.
    pub reserved: i64,
    /// Gone for good.
    pub sold: i64,
}

impl Level {
    /// All that was ever put in; none when it does not fit 64 bits.
    pub fn total(self) -> Option<i64> {
        self.available.checked_add(self.reserved)?.checked_add(self.sold)
    }

    /// What reserving does to what is free and what is held.
    pub const fn reserved(quantity: i64) -> Self {
        Self { available: -quantity, reserved: quantity, sold: 0 }
    }

    /// What selling does to what is held and what is gone.
    pub const fn sold(quantity: i64) -> Self {
        Self { available: 0, reserved: -quantity, sold: quantity }
    }

    /// How orders move stock together, one sum per SKU in their order; none when a sum does not fit. Whether there is enough
    /// is not asked.
    pub fn sums<'a>(
        orders: impl Iterator<Item = &'a Lines>,
        by: fn(i64) -> Self,
    ) -> Option<BTreeMap<&'a Sku, Self>> {
        let mut sums: BTreeMap<&Sku, i64> = BTreeMap::new();
        for (sku, quantity) in orders.flat_map(Lines::iter) {
            let sum = sums.entry(sku).or_default();
            *sum = sum.checked_add(*quantity)?;
        }
        Some(sums.into_iter().map(|(sku, sum)| (sku, by(sum))).collect())
    }

    fn reserve(self, quantity: i64) -> Option<Self> {
        let available = self.available.checked_sub(quantity).filter(|left| *left >= 0)?;
        Some(Self { available, reserved: self.reserved.checked_add(quantity)?, ..self })
    }

    fn sell(self, quantity: i64) -> Option<Self> {
        let reserved = self.reserved.checked_sub(quantity).filter(|left| *left >= 0)?;
        Some(Self { reserved, sold: self.sold.checked_add(quantity)?, ..self })
    }

    fn put_back(self, quantity: i64) -> Option<Self> {
        let reserved = self.reserved.checked_sub(quantity).filter(|left| *left >= 0)?;
        Some(Self { available: self.available.checked_add(quantity)?, reserved, ..self })
    }

    fn add(self, quantity: i64) -> Option<Self> {
        self.total()?.checked_add(quantity)?;
        Some(Self { available: self.available.checked_add(quantity)?, ..self })
    }
}

/// Why a reservation is refused. Stored: it stays refused, whatever comes in later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Fewer are free than wanted.
    OutOfStock {
        /// Of what.
        sku: Sku,
        /// How many the whole order wants of it.
        requested: i64,
        /// How many were free for it.
        available: i64,
    },
    /// Nobody ever put this in.
    UnknownSku {
        /// What.
        sku: Sku,
    },
}

/// The counters contradict what reservations say: a bug, or a hand in the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stock of {sku} is {level:?}: {quantity} cannot be moved")]
pub struct Contradiction {
    sku: Sku,
    level: Level,
    quantity: i64,
}

/// More than 64 bits of one SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// The stock that a batch has locked.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    found: BTreeMap<Sku, Level>,
    now: BTreeMap<Sku, Level>,
}

impl Shelf {
    /// Stock as it was found.
    pub fn new(levels: impl IntoIterator<Item = (Sku, Level)>) -> Self {
        let found: BTreeMap<_, _> = levels.into_iter().collect();
        Self { now: found.clone(), found }
    }

    /// Reserves all lines or none.
    pub fn reserve(&mut self, lines: &Lines) -> Result<(), Refusal> {
        let mut after = Vec::with_capacity(lines.0.len());
        for (sku, quantity) in lines.iter() {
            let level = self.now.get(sku).ok_or_else(|| Refusal::UnknownSku { sku: sku.clone() })?;
            let reserved = level.reserve(*quantity).ok_or_else(|| Refusal::OutOfStock {
                sku: sku.clone(),
                requested: *quantity,
                available: level.available,
            })?;
            after.push((sku.clone(), reserved));
        }
        self.now.extend(after);
        Ok(())
    }

    /// What was reserved is sold.
    pub fn sell(&mut self, lines: &Lines) -> Result<(), Contradiction> {
        self.shift(lines, Level::sell)
    }

    /// What was reserved is free again.
    pub fn put_back(&mut self, lines: &Lines) -> Result<(), Contradiction> {
        self.shift(lines, Level::put_back)
    }

    fn shift(&mut self, lines: &Lines, by: fn(Level, i64) -> Option<Level>) -> Result<(), Contradiction> {
        for (sku, quantity) in lines.iter() {
            let level = self.now.get(sku).copied().unwrap_or_default();
            let after = by(level, *quantity).ok_or_else(|| Contradiction {
                sku: sku.clone(),
                level,
                quantity: *quantity,
            })?;
            self.now.insert(sku.clone(), after);
        }
        Ok(())
    }

    /// More of a SKU, which may be new.
    pub fn add(&mut self, sku: &Sku, quantity: i64) -> Result<(), TooMuch> {
        let level = self.now.get(sku).copied().unwrap_or_default();
        self.now.insert(sku.clone(), level.add(quantity).ok_or(TooMuch)?);
        Ok(())
    }

    /// Whether a SKU was there when the stock was locked.
    pub fn knew(&self, sku: &Sku) -> bool {
        self.found.contains_key(sku)
    }

    /// What changed, one sum per SKU, in their order.
    pub fn changes(&self) -> Vec<(&Sku, Level)> {
        let changed = self.now.iter().filter_map(|(sku, now)| {
            let found = self.found.get(sku).copied().unwrap_or_default();
            // Both are between 0 and the largest number, so the difference fits.
            let change = Level {
                available: now.available - found.available,
                reserved: now.reserved - found.reserved,
                sold: now.sold - found.sold,
            };
            (change != Level::default()).then_some((sku, change))
        });
        changed.collect()
    }
}

#[cfg(test)]
mod tests;
