//! Lots from a seed: the only source of chance in a run.

/// A generator: splitmix64, so that a seed is a whole run and nothing else is.
#[derive(Debug, Clone)]
pub struct Luck(u64);

impl Luck {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5eed_0000_a3e5_d501)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Zero to `bound`, without it; zero when there is nothing to choose from.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        usize::try_from(self.draw() % bound as u64).unwrap_or(0)
    }

    /// From `least` to `most`, both of them possible.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        let range = u64::try_from(most - least).unwrap_or(0) + 1;
        least + i64::try_from(self.draw() % range).unwrap_or(0)
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.draw() % 1000 < u64::from(of_a_thousand)
    }

    /// Heads.
    pub fn flip(&mut self) -> bool {
        self.chance(500)
    }

    /// One of these, which are not none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
