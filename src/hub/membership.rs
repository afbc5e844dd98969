//! Which sector an instrument was of, and when: the topics of a set change with it. Pure; any thread.
//!
//! A topic that joined a set is delivered completely; one that left is reported as left. The replica keeps
//! the last moves of each instrument that moves at all, so what is pending still follows from a view and a
//! position.
//!
//! Invariant: a move that is forgotten causes more to be delivered than is needed, never less.

use super::owed::{Due, Since};
use crate::tape::Position;

/// The sectors of an instrument before its present one.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// Oldest first, without a hole.
    stays: Vec<Stay>,
    /// Position from which its present sector holds.
    since: Position,
    /// Before this position nothing is known any more.
    forgotten: Position,
}

#[derive(Clone, Debug)]
struct Stay {
    sector: Box<str>,
    span: Span,
}

/// `from` included, `until` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Position,
    until: Position,
}

/// When a topic belonged to the sets of a view that cover it for its sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Oldest first, with a hole between two; the present one has no end.
    spans: Box<[Span]>,
    /// It may have belonged to them before this position.
    forgotten: Position,
}

/// Past sectors kept of an instrument. A session with a longer lag receives more than it needs, never less.
const STAYS_KEPT: usize = 8;

impl Moves {
    /// Notes that the sector of an instrument is `now` instead of `before`, from `at` on. Of moves within one
    /// batch only the end counts.
    pub(super) fn note(slot: &mut Option<Box<Self>>, before: &str, now: &str, at: Position) {
        if before == now {
            return;
        }
        let moves = slot.get_or_insert_default();
        if moves.since < at {
            let span = Span { from: moves.since, until: at };
            moves.stays.push(Stay { sector: before.into(), span });
            moves.since = at;
            if moves.stays.len() > STAYS_KEPT {
                moves.forgotten = moves.stays.remove(0).span.until;
            }
        } else if let Some(back) = moves.stays.pop_if(|stay| *stay.sector == *now) {
            moves.since = back.span.from;
        }
    }

    /// Position from which its present sector holds.
    pub(super) fn since(&self) -> Position {
        self.since
    }

    pub(super) fn last(&self) -> Option<&str> {
        self.stays.last().map(|stay| &*stay.sector)
    }

    /// Whether it was of that sector before, or may have been.
    pub(super) fn left(&self, sector: &str) -> bool {
        self.forgotten > Position::START || self.stays.iter().any(|stay| *stay.sector == *sector)
    }

    /// When it belonged to a set of the sectors that `takes_in`; `now` is its present one.
    pub(super) fn membership(&self, now: &str, takes_in: impl Fn(&str) -> bool) -> Membership {
        let present = (now, Span { from: self.since, until: Position::MAX });
        let stays = self.stays.iter().map(|stay| (&*stay.sector, stay.span)).chain([present]);
        let mut spans: Vec<Span> = Vec::new();
        for (_, span) in stays.filter(|(sector, _)| takes_in(sector)) {
            match spans.last_mut() {
                Some(last) if last.until == span.from => last.until = span.until,
                _ => spans.push(span),
            }
        }
        Membership { spans: spans.into(), forgotten: self.forgotten }
    }
}

impl Membership {
    /// Whether it belongs to them now.
    pub(super) fn is_there(&self) -> bool {
        self.spans.last().is_some_and(|span| span.until == Position::MAX)
    }

    /// Whether it belonged to them at that position.
    pub(super) fn was_there(&self, at: Position) -> bool {
        self.spans.iter().any(|span| span.from <= at && at < span.until)
    }

    /// What is pending up to `upto` for a session that has everything up to `known`. `since`: the changes
    /// that would be pending if the topic had never moved.
    pub(super) fn due(&self, since: Since, known: Position, upto: Position) -> Due {
        let mut spans = self.spans.iter().filter(|span| span.from <= upto && span.until > known);
        let Some(first) = spans.next() else {
            return if known < self.forgotten { Due::Left(None) } else { Due::Nothing };
        };
        let last = spans.next_back().unwrap_or(first);
        let was_there = first.from <= known;
        if last.until > upto {
            let stayed = was_there && first == last;
            return if stayed {
                Due::Changes(since)
            } else {
                Due::Joined { had: was_there.then_some(known) }
            };
        }
        // Entries from before it left are pending as ever; where it joined and left more than once, more than
        // these.
        let since = if was_there { since } else { Since { position: first.from.before(), numbered: true } };
        Due::Left(Some((since, last.until.before(), was_there)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moves of an instrument of sector `first` at the beginning, and of the others from each position
    /// on.
    fn moves(first: &str, then: &[(u64, &str)]) -> (Option<Box<Moves>>, String) {
        let (mut moves, mut now) = (None, first);
        for &(at, sector) in then {
            Moves::note(&mut moves, now, sector, Position::new(at));
            now = sector;
        }
        (moves, now.to_owned())
    }

    /// What is pending at the end of 20 batches for a session at `known` with sets of those sectors.
    #[track_caller]
    fn check(then: &[(u64, &str)], sectors: &[&str], known: u64, expected: &str) {
        let (moves, now) = moves("s", then);
        let membership = moves.expect("it moved").membership(&now, |sector| sectors.contains(&sector));
        let known = Position::new(known);
        let since = Since { position: known, numbered: false };
        let due = match membership.due(since, known, Position::new(20)) {
            Due::Nothing => "nothing".to_owned(),
            Due::Changes(_) => "changes".to_owned(),
            Due::Joined { had: None } => "joined".to_owned(),
            Due::Joined { .. } => "joined again".to_owned(),
            Due::Left(None) => "left".to_owned(),
            Due::Left(Some((since, upto, _))) => {
                format!("entries after {} to {}, left", since.position.get(), upto.get())
            }
        };
        assert_eq!(due, expected);
    }

    #[test]
    fn who_was_told_of_a_move_is_owed_no_word_of_it() {
        let away = [(5, "t")];
        check(&away, &["s"], 4, "entries after 4 to 4, left");
        check(&away, &["s"], 1, "entries after 1 to 4, left");
        check(&away, &["s"], 5, "nothing");
        check(&away, &["t"], 4, "joined");
        check(&away, &["t"], 5, "changes");
        check(&away, &["s", "t"], 1, "changes");
        check(&away, &["u"], 1, "nothing");
    }

    #[test]
    fn of_what_came_and_left_meanwhile_every_entry_is_owed() {
        let back = [(5, "t"), (8, "s")];
        check(&back, &["s"], 4, "joined again");
        check(&back, &["s"], 6, "joined");
        check(&back, &["t"], 4, "entries after 4 to 7, left");
        check(&back, &["t"], 6, "entries after 6 to 7, left");
        let twice = [(5, "t"), (8, "s"), (10, "t"), (12, "s")];
        check(&twice, &["t"], 2, "entries after 4 to 11, left");
        check(&twice, &["t"], 9, "entries after 9 to 11, left");
    }

    #[test]
    fn a_batch_counts_as_its_end_is() {
        let (moves, _) = moves("s", &[(5, "t"), (5, "u"), (5, "s")]);
        let moves = moves.expect("it moved");
        assert_eq!((moves.since(), moves.last()), (Position::START, None));
        check(&[(5, "t"), (9, "u"), (9, "t")], &["t"], 6, "changes");
        check(&[(5, "t"), (9, "u"), (9, "v")], &["u"], 6, "nothing");
    }

    #[test]
    fn what_is_forgotten_is_told_as_left_to_whoever_may_have_had_it() {
        let names: Vec<String> = (0..=20).map(|number| format!("s{number}")).collect();
        let then: Vec<(u64, &str)> = (1..).zip(names.iter().map(String::as_str)).take(20).collect();
        check(&then, &["s"], 0, "left");
        check(&then, &["never"], 3, "left");
        check(&then, &["never"], 15, "nothing");
        check(&then, &["s19"], 3, "joined");
        check(&then, &["s18"], 3, "entries after 18 to 19, left");
    }
}
