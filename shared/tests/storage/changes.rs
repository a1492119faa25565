//! Changes of messages: what is allowed, what they leave behind, and that any sequence of them ends as a small model says.

mod model;

use std::collections::BTreeMap;

use proptest::strategy::Strategy as _;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use shared::domain::{
    Accepted, AcceptedChange, ChangeRequest, Command, Emoji, MessageExtra, MessageId, MessageText, Outcome, Refusal,
    RoomEntry, RoomId, RoomName, Seq, Timestamp, UserId,
};
use shared::storage::{Claim, Committed, CreateRoom, JoinMode, KnownPage, Window};

use self::model::{Action, EMOJIS, Model, TEXTS, USERS, actions, applied, state, words};
use crate::support::{Database, NOW, command, hint, message, on_both_back_ends, page};

on_both_back_ends![
    any_sequence_ends_as_the_model_says,
    change_of_a_message_is_decided_in_the_commit,
    deleted_text_is_in_no_table,
    message_deleted_in_its_commit_leaves_its_entries_alone,
    retry_is_recognised_after_an_edit,
    cached_page_is_outdated_by_a_change,
    page_skips_other_entries,
    replies_are_read_in_pages_by_those_who_see_them,
    users_are_found_by_the_names_in_mentions,
];

/// A change of the message `target`, as a worker gets it.
pub(crate) fn change(room: RoomId, sender: UserId, target: MessageId, request: ChangeRequest) -> AcceptedChange {
    AcceptedChange {
        id: MessageId::fresh(),
        room,
        sender,
        created_on: NOW,
        receipt_to: None,
        target,
        request,
    }
}

pub(crate) fn edit(text: &str) -> ChangeRequest {
    ChangeRequest::Edit {
        text: MessageText::parse(text).unwrap(),
        oldest: Timestamp(0),
    }
}

pub(crate) fn react(emoji: &str, on: bool) -> ChangeRequest {
    let emoji = Emoji::parse(emoji).unwrap();
    ChangeRequest::React { emoji, on }
}

pub(crate) const DELETE: ChangeRequest = ChangeRequest::Delete { as_moderator: false };

/// Commits `commands` in one transaction.
async fn run(db: &Database, claim: &mut Claim, commands: impl IntoIterator<Item = Command>) -> Committed {
    let first = claim.cursor.ms + 1;
    let entries = (first..).zip(commands).map(|(ms, done)| command(ms, done)).collect();
    db.commit(claim, entries).await.unwrap()
}

async fn any_sequence_ends_as_the_model_says(db: Database) {
    let mut users = Vec::new();
    for name in USERS {
        users.push(db.user(name).await.id);
    }
    let owner = db.user("owner").await;
    let mut claim = db.claim().await;
    let mut runner = TestRunner::deterministic();
    for number in 0..8 {
        let name = RoomName::parse(&format!("room-{number}")).unwrap();
        let room = db.store.create_room(CreateRoom::public(name, owner.id), NOW).await.unwrap().id;
        let sequence = actions().new_tree(&mut runner).unwrap().current();
        let (mut model, mut ids, mut posted) = (Model::created(), BTreeMap::new(), Vec::new());
        let (mut last, mut batch, mut published) = (None, Batch::default(), Vec::new());
        batch.commands.push(hint(room));
        for (user, action, ends) in sequence {
            let (id, user, action, done) = match (action, last.clone()) {
                (Action::Repeat, None) => continue,
                (Action::Repeat, Some(last)) => last,
                (Action::Member { joins }, _) => {
                    published.extend(batch.commit(&db, &mut claim).await);
                    if joins {
                        db.store.join_public(room, users[user], JoinMode::Explicit, NOW).await.unwrap();
                    } else {
                        db.store.leave(room, users[user], NOW).await.unwrap();
                    }
                    model.set_member(user, joins);
                    batch.commands.push(hint(room));
                    continue;
                }
                (action, _) => {
                    let done = to_command(room, users[user], &action, &posted);
                    let id = id_of(&done);
                    (id, user, action, done)
                }
            };
            let target = target_of(&action, &posted).and_then(|id| ids.iter().find(|(_, known)| **known == id));
            let target = target.map(|(seq, _)| *seq);
            let before = model.entries.len();
            let outcome = model.apply(id, user, &action, target);
            if let (Action::Post { .. }, Outcome::Stored(seq), true) = (&action, outcome, model.entries.len() > before)
            {
                ids.insert(seq, id);
                posted.push(id);
            }
            batch.expected.push((id, outcome));
            batch.commands.push(done.clone());
            last = Some((id, user, action, done));
            if ends {
                published.extend(batch.commit(&db, &mut claim).await);
            }
        }
        published.extend(batch.commit(&db, &mut claim).await);
        assert_eq!(words(&published), model.entries);
        check_entries(&db, room, &published, &model.state(&ids)).await;
    }
    assert_eq!(db.store.rooms_in_outbox(RoomId(0), 10).await.unwrap(), []);
    db.positions_grow_with_seqs().await;
}

/// Commands that are committed in one transaction, and what must become of them.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    expected: Vec<(MessageId, Outcome)>,
}

impl Batch {
    /// Commits them; returns the entries that were published.
    async fn commit(&mut self, db: &Database, claim: &mut Claim) -> Vec<RoomEntry> {
        if self.commands.is_empty() {
            return Vec::new();
        }
        let committed = run(db, claim, self.commands.drain(..)).await;
        let expected: BTreeMap<MessageId, Outcome> = self.expected.drain(..).collect();
        assert_eq!(outcomes(&committed), expected);
        committed.rooms.into_iter().flat_map(|of_room| of_room.entries).collect()
    }
}

/// What a commit says of each command.
fn outcomes(committed: &Committed) -> BTreeMap<MessageId, Outcome> {
    let mut outcomes: BTreeMap<MessageId, Outcome> = committed.outcomes.iter().copied().collect();
    outcomes.extend(committed.duplicates.iter().map(|(id, seq)| (*id, Outcome::Stored(*seq))));
    for entry in committed.rooms.iter().flat_map(|of_room| &of_room.entries) {
        if let RoomEntry::Message(message) = entry {
            outcomes.insert(message.id, Outcome::Stored(message.seq));
        }
    }
    outcomes
}

/// Whoever applies the entries of `room`, live, replayed, or live up to some position and replayed from there, has the `expected`
/// state, and so has SQL.
async fn check_entries(db: &Database, room: RoomId, published: &[RoomEntry], expected: &[String]) {
    let read = db.store.entries_after(room, Seq::ZERO, 1_000).await.unwrap();
    assert_eq!(words(&read), words(published));
    let rows = db.store.history_page(room, None, Window::After(Seq::ZERO), 100, None).await.unwrap().unwrap();
    assert_eq!(state(&rows.messages.unwrap()), expected);
    assert_eq!(state(&applied(published)), expected);
    assert_eq!(state(&applied(&read)), expected);
    for after in (0..read.len()).step_by(7) {
        let position = Seq(i64::try_from(after).unwrap());
        let mut resumed = published[..after].to_vec();
        resumed.extend(db.store.entries_after(room, position, 1_000).await.unwrap());
        assert_eq!(state(&applied(&resumed)), expected, "resumed after {after}");
    }
}

fn target_of(action: &Action, posted: &[MessageId]) -> Option<MessageId> {
    let index = match action {
        Action::Post { reply_to, .. } => (*reply_to)?,
        Action::Edit { index, .. } | Action::Delete { index, .. } | Action::React { index, .. } => *index,
        Action::Member { .. } | Action::Repeat => return None,
    };
    posted.get(index).copied()
}

fn to_command(room: RoomId, sender: UserId, action: &Action, posted: &[MessageId]) -> Command {
    let target = target_of(action, posted).unwrap_or_else(MessageId::fresh);
    let request = match action {
        Action::Post { reply_to, mention } => {
            return Command::Message(Accepted {
                in_reply_to: reply_to.map(|_| target),
                mentions: if *mention { vec![sender] } else { vec![] },
                ..message(room, sender, TEXTS[0])
            });
        }
        Action::Edit { text, .. } => edit(TEXTS[*text]),
        Action::Delete { as_moderator, .. } => ChangeRequest::Delete {
            as_moderator: *as_moderator,
        },
        Action::React { emoji, on, .. } => react(EMOJIS[*emoji], *on),
        Action::Member { .. } | Action::Repeat => unreachable!("no new command"),
    };
    Command::Change(change(room, sender, target, request))
}

fn id_of(command: &Command) -> MessageId {
    match command {
        Command::Message(message) => message.id,
        Command::Change(change) => change.id,
        Command::Outbox(_) => unreachable!("a hint has no id"),
    }
}

async fn change_of_a_message_is_decided_in_the_commit(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (room, other) = (db.room("lobby", &ann).await.id, db.room("other", &ann).await.id);
    let mut claim = db.claim().await;
    let posted = message(room, ann.id, "hello");
    let id = posted.id;
    let outcome = async |claim: &mut Claim, room, sender, request| {
        let committed = run(&db, claim, [Command::Change(change(room, sender, id, request))]).await;
        committed.outcomes[0].1
    };
    assert_eq!(outcome(&mut claim, room, ann.id, DELETE).await, Outcome::Refused(Refusal::NoSuchMessage));
    run(&db, &mut claim, [Command::Message(posted)]).await;
    assert_eq!(outcome(&mut claim, other, ann.id, DELETE).await, Outcome::Refused(Refusal::NoSuchMessage));
    assert_eq!(outcome(&mut claim, room, bob.id, edit("x")).await, Outcome::Refused(Refusal::Forbidden));
    let late = ChangeRequest::Edit {
        text: MessageText::parse("x").unwrap(),
        oldest: Timestamp(NOW.0 + 1),
    };
    assert_eq!(outcome(&mut claim, room, ann.id, late).await, Outcome::Refused(Refusal::EditWindowClosed));
    for number in 0..MessageExtra::MAX_REACTIONS {
        let emoji = char::from_u32(0x1F600 + u32::try_from(number).unwrap()).unwrap().to_string();
        let stored = outcome(&mut claim, room, bob.id, react(&emoji, true)).await;
        assert_eq!(stored, Outcome::Stored(Seq(2 + i64::try_from(number).unwrap())));
    }
    let one_more = outcome(&mut claim, room, bob.id, react("👍", true)).await;
    assert_eq!(one_more, Outcome::Refused(Refusal::TooManyReactions));
    // One that is there already may be used by others.
    assert_eq!(outcome(&mut claim, room, ann.id, react("😀", true)).await, Outcome::Stored(Seq(22)));
    let moderated = ChangeRequest::Delete { as_moderator: true };
    assert_eq!(outcome(&mut claim, room, bob.id, moderated).await, Outcome::Stored(Seq(23)));
    assert_eq!(outcome(&mut claim, room, ann.id, edit("x")).await, Outcome::Refused(Refusal::Deleted));
    // Again it changes nothing, and says where the message is.
    assert_eq!(outcome(&mut claim, room, ann.id, DELETE).await, Outcome::Stored(Seq(1)));
}

async fn deleted_text_is_in_no_table(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let posted = message(room, ann.id, "canary-one");
    let id = posted.id;
    run(&db, &mut claim, [Command::Message(posted)]).await;
    for request in [edit("canary-two"), react("👍", true), DELETE] {
        run(&db, &mut claim, [Command::Change(change(room, ann.id, id, request))]).await;
    }
    let read = page(&db.store, room, ann.id, Window::Only(id), 1).await.unwrap().messages;
    let extra = read[0].extra.as_deref().unwrap();
    assert!(read[0].text.is_empty() && extra.deleted && extra.reactions.is_empty() && extra.edited_on.is_none());
    assert_eq!(db.rows_with("canary").await, 0);
}

/// Of its mentions and reactions nothing stays, although they were decided in the same transaction.
async fn message_deleted_in_its_commit_leaves_its_entries_alone(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let posted = Accepted {
        mentions: vec![ann.id],
        ..message(room, ann.id, "hello")
    };
    let id = posted.id;
    let reacted = change(room, ann.id, id, react("👍", true));
    let deleted = change(room, ann.id, id, DELETE);
    run(
        &db,
        &mut claim,
        [
            Command::Message(posted),
            Command::Change(reacted),
            Command::Change(deleted),
        ],
    )
    .await;
    // The message, the reaction's entry and the deletion's. Every text holds the empty one.
    assert_eq!(db.rows_with("").await, 3);
}

async fn retry_is_recognised_after_an_edit(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let posted = message(room, ann.id, "hello");
    let change = change(room, ann.id, posted.id, edit("goodbye"));
    run(&db, &mut claim, [Command::Message(posted.clone()), Command::Change(change)]).await;
    let again = run(&db, &mut claim, [Command::Message(posted.clone())]).await;
    assert_eq!(again.duplicates, [(posted.id, Seq(1))]);
    let known = db.store.known_messages(&[posted.id]).await.unwrap();
    assert!(known[&posted.id].was_posted_with("hello") && !known[&posted.id].was_posted_with("goodbye"));
    // Another text under the same id is another message.
    let other = Accepted {
        id: posted.id,
        ..message(room, ann.id, "other")
    };
    assert!(run(&db, &mut claim, [Command::Message(other)]).await.duplicates.is_empty());
}

async fn cached_page_is_outdated_by_a_change(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    let posted = message(room, ann.id, "hello");
    let target = posted.id;
    run(&db, &mut claim, [Command::Message(posted)]).await;
    let known = KnownPage {
        heads: Seq(1)..=Seq(i64::MAX),
        changed: Seq::ZERO,
    };
    let read = async || {
        let read = db.store.history_page(room, None, Window::Before(Seq(2)), 9, Some(known.clone())).await;
        read.unwrap().unwrap()
    };
    assert!(read().await.messages.is_none());
    run(&db, &mut claim, [Command::Message(message(room, ann.id, "more"))]).await;
    assert!(read().await.messages.is_none(), "a later message is not on the page");
    run(&db, &mut claim, [Command::Change(change(room, ann.id, target, edit("goodbye")))]).await;
    let page = read().await;
    assert_eq!((page.messages.unwrap()[0].text.as_str(), page.head.changed), ("goodbye", Seq(3)));
}

async fn page_skips_other_entries(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("lobby", &ann).await.id;
    let mut claim = db.claim().await;
    for number in 0..10 {
        let posted = message(room, ann.id, &format!("message {number}"));
        let reaction = change(room, ann.id, posted.id, react("👍", true));
        run(&db, &mut claim, [Command::Message(posted), Command::Change(reaction)]).await;
    }
    let seqs = async |window, limit| -> Vec<i64> {
        let page = page(&db.store, room, ann.id, window, limit).await.unwrap();
        page.messages.iter().map(|message| message.seq.0).collect()
    };
    assert_eq!(seqs(Window::Before(Seq(i64::MAX)), 3).await, [15, 17, 19]);
    assert_eq!(seqs(Window::Before(Seq(15)), 3).await, [9, 11, 13]);
    assert_eq!(seqs(Window::Before(Seq(4)), 3).await, [1, 3]);
    assert_eq!(seqs(Window::After(Seq(4)), 3).await, [5, 7, 9]);
    assert_eq!(seqs(Window::Between(Seq(4), Seq(16)), 3).await, [11, 13, 15]);
    assert_eq!(seqs(Window::Around(Seq(9)), 4).await, [5, 7, 9, 11]);
    assert_eq!(seqs(Window::Around(Seq(1)), 4).await, [1, 3, 5, 7]);
}

async fn replies_are_read_in_pages_by_those_who_see_them(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let (public, secret) = (db.room("lobby", &ann).await.id, db.private_room("secret", &ann).await.id);
    let mut claim = db.claim().await;
    for room in [public, secret] {
        let posted = message(room, ann.id, "question");
        let id = posted.id;
        let reply = |_| {
            Command::Message(Accepted {
                in_reply_to: Some(id),
                ..message(room, ann.id, "answer")
            })
        };
        let commands = [Command::Message(posted)].into_iter().chain((0..3).map(reply));
        run(&db, &mut claim, commands).await;
        let seqs = async |user: UserId, after| -> Option<Vec<i64>> {
            let replies = db.store.replies((room, id), user, Seq(after), 2).await.unwrap()?;
            Some(replies.iter().map(|reply| reply.seq.0).collect())
        };
        assert_eq!(seqs(ann.id, 0).await, Some(vec![2, 3]));
        assert_eq!(seqs(ann.id, 3).await, Some(vec![4]));
        assert_eq!(seqs(bob.id, 0).await, (room == public).then(|| vec![2, 3]));
        let unknown = db.store.replies((room, MessageId::fresh()), ann.id, Seq::ZERO, 2).await.unwrap();
        assert!(unknown.is_none());
    }
}

async fn users_are_found_by_the_names_in_mentions(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let names = ["bob", "nobody", "ann", "Ann"].map(str::to_owned);
    let found = db.store.user_ids(&names).await.unwrap();
    assert_eq!(found, [("ann".to_owned(), ann.id), ("bob".to_owned(), bob.id)].into());
}
