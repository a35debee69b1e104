//! What was done too early, or once too often: before the decision that allows it, or after it was written already.

use amends::audit::Invariant::*;

use super::found;

#[tokio::test]
async fn goods_sold_before_the_pivot_are_found() {
    found(
        I4,
        &[&|w| {
            format!(
                "update orchestrator.journal set events = replace(events, 'PivotPassed', 'Retried') where saga_id = '{}'",
                w.completed
            )
        }],
    )
    .await;
}

#[tokio::test]
async fn a_document_cancelled_before_the_other_answers_is_found() {
    let sent = r#"[{"at":1,"event":"CommandSent","step":"reserve","message_id":"m"}]"#;
    let cancelled = |saga: uuid::Uuid| {
        format!(
            "update orchestrator.journal set events = '{sent}' where saga_id = '{saga}' and version = 2; \
             update orders.document set back_outcome = 'DONE', back_reply = '' where saga_id = '{saga}'"
        )
    };
    found(I5, &[&|w| cancelled(w.parked)]).await;
}

#[tokio::test]
async fn a_commit_that_was_written_twice_is_found() {
    let again = |saga: uuid::Uuid| {
        format!(
            "update orchestrator.journal j set events = f.events from orchestrator.journal f \
             where f.saga_id = j.saga_id and f.version = j.version - 1 and j.version = 3 and j.saga_id = '{saga}'"
        )
    };
    let twice = |saga: uuid::Uuid, event: &str| {
        format!(
            r#"update orchestrator.journal set events = replace(events, '"{event}"', '"{event}"}},{{"at":1,"event":"{event}"')
             where saga_id = '{saga}'"#
        )
    };
    found(
        I10,
        &[&|w| again(w.parked), &|w| twice(w.completed, "PivotPassed"), &|w| twice(w.refused, "TurnedRound")],
    )
    .await;
}
