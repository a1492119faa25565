//! Which rooms each user is in, where streams follow all rooms of a user.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// What everything random follows from: the same plan always has the same memberships.
const SEED: u64 = 20_261_130;

/// Draws of a user for each room, after which the user gets the most popular rooms that are left: a user who is in nearly all rooms
/// would draw the last ones for long.
const DRAWS_FOR_EACH: usize = 50;

/// Which rooms users are in. Each draws rooms by a Zipf distribution: the room of rank `n` with a weight of `n` to the power of
/// `-skew`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UserRooms {
    /// Rooms that each user is in.
    pub each: usize,
    /// The exponent; 0 where all rooms are equally popular.
    pub skew: f64,
    /// The first so many rooms, which everybody is in.
    pub common: usize,
}

impl UserRooms {
    /// So many rooms each, by the classic exponent, by which the second room has half the members of the first one.
    #[must_use]
    pub fn of(each: usize) -> Self {
        Self {
            each,
            skew: 1.0,
            common: 0,
        }
    }

    /// True if there can be such memberships in so many rooms.
    pub(super) fn is_possible(&self, rooms: usize) -> bool {
        (1..=rooms).contains(&self.each) && (0.0..=10.0).contains(&self.skew)
    }

    /// The rooms of each of `users`, of `rooms` in all, ascending by number. The numbers of rooms say nothing of how popular they are: a load
    /// posts to one room after the other, and large rooms one after the other are a burst that no users make.
    pub(crate) fn draw(&self, users: usize, rooms: usize) -> Vec<Vec<usize>> {
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut total = 0.0;
        let sums: Vec<f64> = (0..rooms)
            .map(|rank| {
                total += weight(rank, self.skew);
                total
            })
            .collect();
        let common = self.common.min(self.each);
        let mut room_of_rank: Vec<usize> = (0..rooms).collect();
        room_of_rank[common..].shuffle(&mut rng);
        let one = |rng: &mut StdRng| {
            let mut drawn: BTreeSet<usize> = (0..common).collect();
            for _ in 0..self.each * DRAWS_FOR_EACH {
                if drawn.len() >= self.each {
                    break;
                }
                let point = rng.random_range(0.0..total);
                drawn.insert(sums.partition_point(|sum| *sum <= point).min(rooms - 1));
            }
            let left: Vec<usize> = (0..rooms).filter(|rank| !drawn.contains(rank)).collect();
            let missing = self.each.saturating_sub(drawn.len());
            drawn.extend(left.into_iter().take(missing));
            let mut drawn: Vec<usize> = drawn.into_iter().map(|rank| room_of_rank[rank]).collect();
            drawn.sort_unstable();
            drawn
        };
        (0..users).map(|_| one(&mut rng)).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "ranks of rooms are far below 2^52")]
fn weight(rank: usize, skew: f64) -> f64 {
    ((rank + 1) as f64).powf(-skew)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 1,000 users are in each of 100 rooms.
    fn members(user_rooms: UserRooms) -> Vec<usize> {
        let mut members = vec![0; 100];
        for rooms in user_rooms.draw(1_000, 100) {
            assert_eq!(rooms.len(), user_rooms.each);
            assert!(rooms.is_sorted_by(|one, other| one < other), "{rooms:?}");
            for room in rooms {
                members[room] += 1;
            }
        }
        members
    }

    #[test]
    fn popular_rooms_have_more_members() {
        let (each, common) = (10, 0);
        let members_of = |skew| members(UserRooms { each, skew, common });
        let zipf = members_of(1.0);
        let mut by_rank = zipf.clone();
        by_rank.sort_unstable_by(|one, other| other.cmp(one));
        assert!(by_rank[0] > 800 && by_rank[0] > 4 * by_rank[50], "{by_rank:?}");
        assert!(zipf[..10] != by_rank[..10], "large rooms are not posted to one after the other: {zipf:?}");
        let even = members_of(0.0);
        assert!(even.iter().all(|count| (50..150).contains(count)), "{even:?}");
        assert_eq!(members_of(1.0), zipf, "always the same");
    }

    #[test]
    fn everybody_is_in_the_common_rooms_and_may_be_in_all() {
        let common = members(UserRooms {
            each: 5,
            skew: 0.0,
            common: 3,
        });
        assert_eq!(common[..3], [1_000; 3]);
        let all = members(UserRooms {
            each: 100,
            skew: 2.0,
            common: 0,
        });
        assert_eq!(all, [1_000; 100]);
    }
}
