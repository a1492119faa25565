use super::*;
use crate::server::client_budget::{ClientBudgets, REQUESTS, REQUESTS_BEFORE_TOKEN, RESPONSES};
use crate::server::connection_budget::EARLY_REQUESTS;

fn connection() -> Arc<ConnectionBudget> {
    let budgets = ClientBudgets::new(0);
    let client = budgets.of([10, 0, 0, 1].into());
    ConnectionBudget::new(budgets, Some(client))
}

fn request(connection: &Arc<ConnectionBudget>) -> RequestBudget {
    RequestBudget::for_headers(connection, None, &Uri::from_static("/"), &HeaderMap::new())
}

#[test]
fn a_connection_may_hold_more_after_a_token() {
    let connection = connection();
    let (first, second) = (request(&connection), request(&connection));
    assert_eq!(first.refused(), None);
    assert_eq!(first.charge(REQUESTS_BEFORE_TOKEN - 2 * REQUEST_OVERHEAD - 2), Ok(()));
    assert_eq!(second.charge(1), Err(OverBudget::Client));
    second.on_token(1);
    assert_eq!(second.charge(1), Ok(()));
    assert_eq!(second.charge(REQUESTS.connection), Err(OverBudget::Client));
    drop(first);
    drop(second);
    assert_eq!(connection.held_and_charged(), (0, 0));
    // A request that is alone is let through.
    assert_eq!(connection.charge(2 * REQUESTS.connection), Ok(()));
}

#[test]
fn reads_have_a_rate_until_a_token_was_seen() {
    let budgets = ClientBudgets::new(1);
    let client = budgets.of([10, 0, 0, 1].into());
    let connection = ConnectionBudget::new(Arc::clone(&budgets), Some(client));
    assert!(!connection.read_delay(1 << 20).is_zero());
    request(&connection).on_token(1);
    assert!(!connection.has_read_rate());
    assert!(connection.read_delay(1 << 20).is_zero());
    let of_proxy = ConnectionBudget::new(budgets, None);
    assert!(of_proxy.read_delay(1 << 20).is_zero());
}

/// Otherwise a hundred bytes would keep others out as well as 64 KiB do.
#[test]
fn an_announced_length_is_not_charged() {
    let connection = connection();
    let announced: Vec<_> = (0..100).map(|_| request(&connection)).collect();
    for request in &announced {
        assert_eq!(request.check_room(REQUESTS_BEFORE_TOKEN / 2), Ok(()));
    }
    assert_eq!(announced[0].check_room(REQUESTS_BEFORE_TOKEN), Err(OverBudget::Client));
    drop(announced);
    assert_eq!(connection.held_and_charged().0, 0);
}

#[test]
fn unsent_responses_leave_no_room_for_others() {
    let connection = connection();
    let request = request(&connection);
    let large = request.charge_response(RESPONSES.connection).unwrap();
    assert_eq!(request.charge_response(1).err(), Some(OverBudget::Client));
    drop(large);
    assert!(request.charge_response(1).is_ok());
}

#[test]
fn a_caller_has_one_budget_from_all_addresses() {
    let budgets = ClientBudgets::new(0);
    let from = |last: u8| {
        let client = budgets.of([10, 0, 0, last].into());
        request(&ConnectionBudget::new(Arc::clone(&budgets), Some(client)))
    };
    let requests: Vec<_> = (1..=9).map(from).collect();
    for request in &requests {
        request.on_token(7);
    }
    let each = RESPONSES.address / 8;
    let unsent: Vec<_> = requests[..8].iter().map(|request| request.charge_response(each).unwrap()).collect();
    assert_eq!(requests[8].charge_response(1).err(), Some(OverBudget::Client));
    let other = from(10);
    other.on_token(8);
    assert!(other.charge_response(each).is_ok());
    drop(unsent);
    assert!(requests[8].charge_response(each).is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_permit_once_a_token_was_seen() {
    let connection = connection();
    let request = request(&connection);
    let mut permits = Vec::new();
    for _ in 0..EARLY_REQUESTS {
        permits.push(request.early_permit().await.unwrap());
    }
    assert!(request.early_permit().await.is_err(), "all permits are in use");
    let waiting = request.early_permit();
    request.on_token(1);
    assert!(waiting.await.unwrap().is_none());
}
