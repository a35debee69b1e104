//! The rules of stock as tables, and the laws that hold under any sequence of moves.

use proptest::prelude::*;

use super::*;

fn sku(name: &str) -> Sku {
    name.parse().unwrap()
}

fn lines(given: &[(&str, i64)]) -> Lines {
    Lines::new(given.iter().map(|(name, quantity)| (sku(name), *quantity)).collect()).unwrap()
}

fn level(available: i64, reserved: i64, sold: i64) -> Level {
    Level { available, reserved, sold }
}

#[test]
fn the_same_sku_twice_is_summed_and_bad_lines_are_named() {
    assert_eq!(lines(&[("B", 1), ("A", 2), ("B", 3)]), Lines(vec![(sku("A"), 2), (sku("B"), 4)]));
    let bad = |given: &[(&str, i64)]| {
        Lines::new(given.iter().map(|(name, quantity)| (sku(name), *quantity)).collect()).unwrap_err()
    };
    assert_eq!(bad(&[]), BadLines::Count(0));
    assert_eq!(bad(&[("A", 1); MAX_LINES + 1]), BadLines::Count(MAX_LINES + 1));
    assert_eq!(bad(&[("A", 1), ("B", 0)]), BadLines::NotPositive(1));
    assert_eq!(bad(&[("A", i64::MIN)]), BadLines::NotPositive(0));
    assert_eq!(bad(&[("A", i64::MAX), ("B", 1), ("A", 1)]), BadLines::TooLarge(2));
}

#[test]
fn a_reservation_takes_all_lines_or_none() {
    let mut shelf = Shelf::new([(sku("A"), level(5, 0, 0)), (sku("B"), level(1, 0, 0))]);
    assert_eq!(
        shelf.reserve(&lines(&[("A", 2), ("B", 2)])),
        Err(Refusal::OutOfStock { sku: sku("B"), requested: 2, available: 1 })
    );
    assert_eq!(shelf.reserve(&lines(&[("A", 2), ("C", 1)])), Err(Refusal::UnknownSku { sku: sku("C") }));
    assert!(shelf.changes().is_empty());
    // An item that does not fit does not stand in the way of the next.
    assert_eq!(shelf.reserve(&lines(&[("A", 5), ("B", 1)])), Ok(()));
    assert_eq!(shelf.changes(), [(&sku("A"), level(-5, 5, 0)), (&sku("B"), level(-1, 1, 0))]);
    assert_eq!(
        shelf.reserve(&lines(&[("A", 1)])),
        Err(Refusal::OutOfStock { sku: sku("A"), requested: 1, available: 0 })
    );
}

#[test]
fn what_is_not_reserved_can_be_neither_sold_nor_put_back() {
    let mut shelf = Shelf::new([(sku("A"), level(5, 1, 0))]);
    assert!(shelf.sell(&lines(&[("A", 2)])).is_err());
    assert!(shelf.put_back(&lines(&[("A", 2)])).is_err());
    assert!(shelf.sell(&lines(&[("B", 1)])).is_err());
    assert!(shelf.changes().is_empty());
    shelf.sell(&lines(&[("A", 1)])).unwrap();
    assert_eq!(shelf.changes(), [(&sku("A"), level(0, -1, 1))]);
}

#[test]
fn no_sku_ever_holds_more_than_64_bits() {
    let mut shelf = Shelf::new([(sku("A"), level(1, i64::MAX - 2, 0))]);
    assert_eq!(shelf.add(&sku("A"), 2), Err(TooMuch));
    assert_eq!(shelf.add(&sku("A"), 1), Ok(()));
    assert_eq!(shelf.add(&sku("B"), 7), Ok(()));
    assert!(shelf.knew(&sku("A")) && !shelf.knew(&sku("B")));
    assert_eq!(shelf.changes(), [(&sku("A"), level(1, 0, 0)), (&sku("B"), level(7, 0, 0))]);
}

#[derive(Debug, Clone)]
enum Move {
    Reserve(Vec<(u8, i64)>),
    Sell(usize),
    PutBack(usize),
    Add(u8, i64),
}

fn moves() -> impl Strategy<Value = Move> {
    let quantity = prop_oneof![1..6_i64, Just(i64::MAX), Just(i64::MAX / 2)];
    prop_oneof![
        prop::collection::vec((0..4_u8, quantity.clone()), 1..4).prop_map(Move::Reserve),
        any::<usize>().prop_map(Move::Sell),
        any::<usize>().prop_map(Move::PutBack),
        (0..4_u8, quantity).prop_map(|(name, quantity)| Move::Add(name, quantity)),
    ]
}

fn name(number: u8) -> Sku {
    sku(&format!("S{number}"))
}

proptest! {
    /// Under any sequence of moves: no counter is negative, only what was put in is there, and what is reserved is
    /// what live reservations say.
    #[test]
    fn stock_is_conserved(moves in prop::collection::vec(moves(), 0..60)) {
        let mut shelf = Shelf::default();
        let mut put_in: BTreeMap<Sku, i64> = BTreeMap::new();
        let mut live: Vec<Lines> = Vec::new();
        for one in moves {
            match one {
                Move::Reserve(given) => {
                    let Ok(lines) = Lines::new(given.into_iter().map(|(n, q)| (name(n), q)).collect()) else { continue };
                    let before = shelf.now.clone();
                    match shelf.reserve(&lines) {
                        Ok(()) => live.push(lines),
                        Err(_) => prop_assert_eq!(&shelf.now, &before),
                    }
                }
                Move::Sell(which) if !live.is_empty() => {
                    let lines = live.swap_remove(which % live.len());
                    prop_assert!(shelf.sell(&lines).is_ok());
                }
                Move::PutBack(which) if !live.is_empty() => {
                    let lines = live.swap_remove(which % live.len());
                    prop_assert!(shelf.put_back(&lines).is_ok());
                }
                Move::Sell(_) | Move::PutBack(_) => {}
                Move::Add(n, quantity) => {
                    if shelf.add(&name(n), quantity).is_ok() {
                        *put_in.entry(name(n)).or_default() += quantity;
                    }
                }
            }
            for (sku, level) in &shelf.now {
                prop_assert!(level.available >= 0 && level.reserved >= 0 && level.sold >= 0);
                prop_assert_eq!(level.total(), put_in.get(sku).copied());
                let held: i64 = live.iter().flat_map(Lines::iter).filter(|(s, _)| s == sku).map(|(_, q)| q).sum();
                prop_assert_eq!(level.reserved, held);
            }
        }
    }
}
