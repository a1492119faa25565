use super::early_rate::LONGEST_WAIT;
use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

#[test]
fn an_address_is_forgotten_with_its_last_connection() {
    let budgets = ClientBudgets::new(1);
    let mut first = budgets.of(ONE);
    assert_eq!(first.connect(), Ok(()));
    let mut second = budgets.of(ONE);
    assert_eq!(second.connect(), Err(OverBudget::Client));
    drop((first, second));
    assert!(budgets.table().by_owner.is_empty());
    assert_eq!(budgets.of(ONE).connect(), Ok(()));
}

#[test]
fn a_used_up_budget_is_charged_again_after_a_release() {
    let budgets = ClientBudgets::new(0);
    let client = budgets.of(ONE);
    assert_eq!(client.charge(Traffic::Requests, REQUESTS.address), Ok(()));
    assert_eq!(client.charge(Traffic::Requests, 1), Err(OverBudget::Client));
    assert_eq!(client.charge(Traffic::Responses, 1), Ok(()));
    client.release(Traffic::Requests, 1);
    assert_eq!(client.charge(Traffic::Requests, 1), Ok(()));
    assert_eq!(budgets.charge(Traffic::Requests, REQUESTS.process + 1), Err(OverBudget::Process));
}

#[tokio::test(start_paused = true)]
async fn all_connections_of_an_address_share_its_early_rate() {
    let budgets = ClientBudgets::new(1_000);
    let (first, second, other) = (budgets.of(ONE), budgets.of(ONE), budgets.of([10, 0, 0, 2].into()));
    assert_eq!(first.delay_early(1_000), Duration::ZERO);
    // Three seconds' worth, of which one is let through at once, behind what was counted before.
    let wait = first.delay_early(3 * 1_000 * usize::try_from(EARLY_BYTES).unwrap());
    assert!((Duration::from_secs(2)..Duration::from_millis(2_001)).contains(&wait), "{wait:?}");
    assert!(second.delay_early(1_000) > Duration::from_secs(2));
    assert_eq!(second.delay_early(usize::MAX), LONGEST_WAIT, "nobody waits for longer");
    assert_eq!(other.delay_early(1_000), Duration::ZERO);
    // An address that closes all its connections is still known.
    drop((first, second, other));
    assert!(budgets.of(ONE).delay_early(1_000) > Duration::from_secs(2));
}

#[test]
fn a_sweep_removes_owners_that_have_paid() {
    let mut table = ClientTable::default();
    let address = |n: usize| BudgetOwner::Address(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()).into());
    for n in 0..2 * SMALLEST_SWEEP {
        table.of(address(n), Duration::ZERO).early.count(EARLY_BYTES, EARLY_BYTES, Duration::ZERO);
    }
    assert_eq!(table.by_owner.len(), 2 * SMALLEST_SWEEP, "each has a second to pay for");
    let used = table.of(address(0), Duration::ZERO);
    table.sweep_above = 0;
    table.of(address(1), Duration::from_mins(1));
    assert_eq!(table.by_owner.len(), 2);
    drop(used);
}

#[test]
fn without_a_connection_limit_nobody_is_slowed_down() {
    let budgets = ClientBudgets::new(0);
    assert_eq!(budgets.of(ONE).delay_early(usize::MAX), Duration::ZERO);
}
