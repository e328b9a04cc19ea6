//! What others put onto a stream.

use happening::config::Provider;

use crate::world::{LIMIT, World, numbers};

pub async fn foreign_junk_is_delivered(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    world.publish(1..=1).await;
    let mut reasons = vec!["not UTF-8", "no envelope", "no envelope", "no envelope", "at most"];
    world.put_foreign(b"\xff\xfe{}").await;
    world.put_foreign(b"").await;
    world.put_foreign(b"{\"specversion\": \"1.0\"").await;
    world.put_foreign("[".repeat(100_000).as_bytes()).await;
    world.put_foreign(&vec![b'x'; 2 << 20]).await;
    if world.provider() == Provider::Redis {
        let mut redis = world.redis().await;
        let key = world.stream.redis_key("");
        for fields in [["payload", "{}"], ["Data", "{}"]] {
            redis::cmd("XADD")
                .arg(&key)
                .arg("*")
                .arg(&fields)
                .exec_async(&mut redis)
                .await
                .unwrap();
            reasons.push("no field `data`");
        }
        let mut long = redis::cmd("XADD");
        long.arg(&key).arg("*").arg("name").arg(vec![0_u8; 2 << 20]);
        long.exec_async(&mut redis).await.unwrap();
        reasons.push("no field `data`");
    }
    world.publish(2..=2).await;
    let read = reader.take(reasons.len() + 2).await;
    assert_eq!(numbers(&read[..1]), [1]);
    assert_eq!(numbers(&read[read.len() - 1..]), [2]);
    for (junk, wanted) in read[1..].iter().zip(&reasons) {
        let defect = junk.envelope().unwrap_err();
        assert!(defect.reason().contains(wanted), "{}, not {wanted}", defect.reason());
        assert!(junk.body.len() <= LIMIT, "what is kept of it is bounded");
    }
    if world.provider() == Provider::Redis {
        assert_eq!(&read[6].body[..], b"payload={}", "what there is instead is kept");
    }
    reader.ack(&read).await;
    reader.takes_nothing().await;
    let lag = world.bus.lag(&world.stream, "readers").await.unwrap();
    assert_eq!((lag.pending, lag.lag), (0, 0));
}

pub async fn a_flood_of_junk_is_bounded(world: &mut World) {
    let mut reader = world.subscribe("readers", "one").await;
    let long = vec![b'x'; LIMIT + 10];
    for _ in 0..24 {
        world.put_foreign(&long).await;
    }
    world.publish(1..=1).await;
    let read = reader.take(25).await;
    let kept: usize = read.iter().map(|one| one.body.len()).sum();
    assert!(kept < 24 * 100_000, "{kept} bytes are kept");
    assert_eq!(numbers(&read[24..]), [1]);
}
