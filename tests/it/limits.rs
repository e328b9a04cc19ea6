//! Limits per account and per address, and the headers that tell of them.

use futures_util::future::join_all;

use crate::harness::Wishes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_asks_too_much_is_slowed_and_others_are_not() {
    let narrow = Wishes::default().set("HAPPENING__LIMITS__ACCOUNT_PER_SECOND", "1");
    let server = narrow.set("HAPPENING__LIMITS__ACCOUNT_BURST", "5").start().await;
    let (ana, ben) = (server.person().await, server.person().await);
    let me = |token: &str| server.call("GET", "/me").bearer(token).send();
    let first = me(&ana.token).await.expect(200);
    assert!(first.header("ratelimit").contains("r="), "{}", first.header("ratelimit"));
    assert!(first.header("ratelimit-policy").contains("q=5"), "{:?}", first.headers);
    let all = join_all((0..20).map(|_| me(&ana.token))).await;
    let slowed: Vec<_> = all.into_iter().filter(|reply| reply.status != 200).collect();
    assert!(slowed.len() >= 14, "{} were slowed", slowed.len());
    for reply in slowed {
        let reply = reply.refused(429, "too_many_requests");
        assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    me(&ben.token).await.expect(200);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_asks_too_much_is_slowed_whoever_asks() {
    let server = Wishes::default()
        .set("HAPPENING__LIMITS__EXEMPT_LOOPBACK", "false")
        .set("HAPPENING__LIMITS__ADDRESS_PER_SECOND", "1")
        .set("HAPPENING__LIMITS__ADDRESS_BURST", "5")
        .start()
        .await;
    let all = join_all((0..20).map(|_| server.call("GET", "/events").send())).await;
    let slowed = all.iter().filter(|reply| reply.status == 429).count();
    assert!((14..20).contains(&slowed), "{slowed} were slowed");
    // Nobody believes who says to be somebody else.
    let other = server.call("GET", "/events").header("x-forwarded-for", "203.0.113.7");
    other.send().await.refused(429, "too_many_requests");
    // Signs of life are not limited.
    for _ in 0..20 {
        server.root("GET", "/health/live").send().await.expect(200);
    }
    server.finish().await;
}
