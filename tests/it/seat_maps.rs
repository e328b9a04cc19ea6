//! Seat maps: drawn or described, given back as they were; and the best seats that are left.

use serde_json::{Value, json};

use crate::harness::TestServer;
use crate::harness::people::over;

fn described() -> Value {
    json!({"generate": [
        {"section": "Stalls", "rows": 2, "seats_per_row": 6, "aisles_after": [3],
         "category": "premium"},
        {"section": "Circle", "rows": 1, "seats_per_row": 8}
    ]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_is_generated_from_a_description_and_what_is_exported_can_be_imported() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let map = described();
    let more = json!({"seating": "numbered", "capacity": 20, "seat_map": map});
    let event = server.draft(&organizer, more).await;
    let token = &organizer.person.token;
    let read = async || {
        let path = format!("/events/{event}/seats?include=map");
        server.call("GET", &path).bearer(token).send().await.expect(200).body["seat_map"].clone()
    };
    let made = read().await;
    let row = &made["sections"][0]["rows"][1];
    assert_eq!(row["name"], "B");
    assert_eq!(
        row["seats"][3],
        json!({"number": 10, "label": "B4", "x": 1.0, "y": 1.0,
                                       "category": "premium"})
    );
    assert_eq!(made["sections"][1]["rows"][0]["seats"][7]["number"], 20);
    assert_eq!(made["stage"], json!({"x": 0.0, "y": -2.0}));

    // What was exported is imported again, changed by hand.
    let mut drawn = made.clone();
    drawn["sections"][1]["name"] = json!("Gallery");
    drawn["stage"] = json!({"x": -3.5, "y": 0.0});
    server.patch(&organizer, event, json!({"seat_map": drawn})).await.expect(200);
    assert_eq!(read().await, drawn);
    server.patch(&organizer, event, json!({"seat_map": null})).await.expect(200);
    assert_eq!(read().await, Value::Null);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_map_is_told_with_pointers() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let path = format!("/organizations/{}/events", organizer.organization);
    let block = |more: Value| {
        let usual = json!({"section": "Stalls", "rows": 4, "seats_per_row": 5});
        json!({"generate": [over(usual, more)]})
    };
    let at = "/seat_map/generate/0";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (json!({}), vec!["/seat_map/sections".to_owned()]),
        (json!({"generate": []}), vec!["/seat_map/generate".to_owned()]),
        (json!({"generate": [], "sections": []}), vec!["/seat_map/generate".to_owned()]),
        (json!({"generate": [], "stage": {"x": 1, "y": 1}}), vec!["/seat_map/stage".to_owned()]),
        (
            json!({"sections": [], "stage": {"x": 1e9, "y": -1e9}}),
            vec!["/seat_map/stage/x".to_owned(), "/seat_map/stage/y".to_owned()],
        ),
        (
            block(json!({"rows": 0, "seats_per_row": -5, "aisles_after": [9]})),
            vec![format!("{at}/aisles_after"), format!("{at}/rows"), format!("{at}/seats_per_row")],
        ),
        (block(json!({"aisles_after": [3, 2]})), vec![format!("{at}/aisles_after")]),
        (
            block(json!({"rows": 1000, "seats_per_row": 1000})),
            vec!["/seat_map/generate".to_owned()],
        ),
        (block(json!({"rows": 5})), vec!["/seat_map".to_owned()]),
        (block(json!({"section": ""})), vec!["/seat_map/sections/0/name".to_owned()]),
    ];
    let state = server.state().await;
    for (map, pointers) in cases {
        let more = json!({"seating": "numbered", "capacity": 20, "seat_map": map});
        let body = over(server.usual_event(), more);
        let ask = server.call("POST", &path).bearer(&organizer.person.token).json(body);
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        ask.send().await.invalid(&pointers);
    }
    assert_eq!(server.state().await, state);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_of_five_thousand_seats_is_drawn_and_held_in() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let block = json!({"section": "Hall", "rows": 100, "seats_per_row": 50, "aisles_after": [25]});
    let more = json!({"seating": "numbered", "capacity": 5000,
                      "seat_map": {"generate": [block]}});
    let event = server.event(&organizer, more).await;
    let path = format!("/events/{event}/seats?include=map");
    let map = server.call("GET", &path).send().await.expect(200).body["seat_map"].clone();
    assert!(map.to_string().len() > 200_000, "larger than an ordinary body may be");
    server.patch(&organizer, event, json!({"seat_map": map})).await.expect(200);
    let whole = json!({"seat_map": map}).to_string();
    // Whoever is not known may not send so much.
    let ask = server.call("PATCH", &format!("/events/{event}")).raw(whole);
    ask.send().await.refused(401, "unauthenticated");

    let ana = server.person().await;
    let ask = server.call("POST", &format!("/events/{event}/holds")).bearer(&ana.token);
    let held = ask.json(json!({"best_available": {"count": 4}})).send().await.expect(201);
    // In the middle of the front row, on one side of the aisle, and not next to a single seat.
    assert_eq!(held.body["seat_numbers"], json!([22, 23, 24, 25]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_that_are_left_are_held() {
    let server = TestServer::start().await;
    let organizer = server.organizer().await;
    let more = json!({"seating": "numbered", "capacity": 20, "seat_map": described(),
                      "max_seats_per_booking": 6});
    let event = server.event(&organizer, more).await;
    let people = server.people(6).await;
    let path = format!("/events/{event}/holds");
    let hold = async |n: usize, best: Value| {
        let ask = server.call("POST", &path).bearer(&people[n].token);
        ask.json(json!({"best_available": best})).send().await
    };
    let three = hold(0, json!({"count": 3, "category": "premium"})).await.expect(201);
    assert_eq!(three.body["seat_numbers"], json!([1, 2, 3]));
    // The other side of the aisle; then the row behind.
    let three = hold(1, json!({"count": 3})).await.expect(201);
    assert_eq!(three.body["seat_numbers"], json!([4, 5, 6]));
    let four = hold(2, json!({"count": 4})).await.expect(201);
    assert_eq!(four.body["seat_numbers"], json!([15, 16, 17, 18]), "together, in the middle");
    hold(3, json!({"count": 6, "category": "premium"})).await.expect(201);
    hold(4, json!({"count": 1, "category": "premium"})).await.refused(409, "sold_out");
    hold(4, json!({"count": 1, "category": "box"})).await.invalid(&["/best_available/category"]);
    hold(4, json!({"count": 7})).await.invalid(&["/best_available/count"]);
    hold(4, json!({"count": 0})).await.invalid(&["/best_available/count"]);
    hold(4, json!({"count": 5})).await.refused(409, "sold_out");
    for token in [&three, &four] {
        let path = format!("{path}/{}", token.str("hold_token"));
        let owner = if token.body == three.body { &people[1] } else { &people[2] };
        server.call("DELETE", &path).bearer(&owner.token).send().await.expect(204);
    }
    server.finish().await;
}
