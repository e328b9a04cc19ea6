//! People and what they make: accounts by SQL because there are many and passwords are slow on
//! purpose, everything else through the API.

use happening::clock::Ids;
use happening::domain::account::UserRole;
use happening::domain::ids::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::TestServer;
use crate::support::client::{Ask, Client, Reply};

const INSERT: &str =
    "INSERT INTO users (id, email, name, password_hash, role, created_at, updated_at)
    SELECT id, 'p' || id || '@example.org', 'P', '', $2, $3, $3 FROM unnest($1::uuid[]) AS id";

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: Uuid,
    /// A good access token.
    pub token: String,
}

impl Person {
    /// Their address.
    pub fn email(&self) -> String {
        format!("p{}@example.org", self.id)
    }
}

/// Somebody with an organization.
#[derive(Clone, Debug)]
pub struct Organizer {
    /// Who.
    pub person: Person,
    /// Their organization.
    pub organization: Uuid,
}

/// Signs somebody up with the password `correct horse`.
pub async fn register(server: &impl AsRef<Client>, name: &str) -> Reply {
    let email = format!("{name}@example.org");
    let body = json!({"email": email, "password": "correct horse", "name": name});
    server.as_ref().call("POST", "/auth/register").json(body).send().await.expect(201)
}

/// Signs in.
pub async fn login(server: &impl AsRef<Client>, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    server.as_ref().call("POST", "/auth/login").json(body).send().await
}

/// Exchanges a refresh token.
pub async fn refresh(server: &impl AsRef<Client>, token: &str) -> Reply {
    let body = json!({"refresh_token": token});
    server.as_ref().call("POST", "/auth/refresh").json(body).send().await
}

/// Asks who one is.
pub async fn me(server: &impl AsRef<Client>, token: &str) -> Reply {
    server.as_ref().call("GET", "/me").bearer(token).send().await
}

impl TestServer {
    /// Somebody.
    pub async fn person(&self) -> Person {
        self.people(1).await.remove(0)
    }

    /// So many.
    pub async fn people(&self, count: usize) -> Vec<Person> {
        self.accounts(count, UserRole::User).await
    }

    /// An operator of the instance.
    pub async fn admin(&self) -> Person {
        self.accounts(1, UserRole::Admin).await.remove(0)
    }

    async fn accounts(&self, count: usize, role: UserRole) -> Vec<Person> {
        let ids: Vec<Uuid> = (0..count).map(|_| Ids.uuid()).collect();
        let now = self.clock().now();
        self.pg().execute(INSERT, &[&ids, &role.name(), &now]).await.expect("people");
        let token = |id| self.app().tokens.issue(UserId(id), role).expect("a token");
        ids.into_iter().map(|id| Person { id, token: token(id) }).collect()
    }

    /// Somebody who has founded an organization.
    pub async fn organizer(&self) -> Organizer {
        let person = self.person().await;
        let name = json!({"name": "The Hall"});
        let made = self.call("POST", "/organizations").bearer(&person.token).json(name);
        let organization = super::id(&made.send().await.expect(201).body["id"]);
        Organizer { person, organization }
    }

    /// A draft; `more` goes over the usual.
    pub async fn draft(&self, by: &Organizer, more: Value) -> Uuid {
        let ask = self.call("POST", &format!("/organizations/{}/events", by.organization));
        let body = over(self.usual_event(), more);
        super::id(&ask.bearer(&by.person.token).json(body).send().await.expect(201).body["id"])
    }

    /// The usual event: general seats for ten, strict.
    pub fn usual_event(&self) -> Value {
        json!({"title": "Open-Air Night", "starts_at": super::in_days(self.clock(), 30),
               "capacity": 10, "seating": "general", "waitlist": {"policy": "strict"}})
    }

    /// An event on sale.
    pub async fn event(&self, by: &Organizer, more: Value) -> Uuid {
        let event = self.draft(by, more).await;
        self.publish(by, event).await.expect(200);
        event
    }

    /// Puts a draft on sale.
    pub async fn publish(&self, by: &Organizer, event: Uuid) -> Reply {
        self.call("POST", &format!("/events/{event}/publish")).bearer(&by.person.token).send().await
    }

    /// Changes an event.
    pub async fn patch(&self, by: &Organizer, event: Uuid, change: Value) -> Reply {
        let ask = self.call("PATCH", &format!("/events/{event}")).bearer(&by.person.token);
        ask.json(change).send().await
    }

    /// An event as somebody sees it.
    pub async fn seen(&self, by: &Person, event: Uuid) -> Value {
        let ask = self.call("GET", &format!("/events/{event}")).bearer(&by.token);
        ask.send().await.expect(200).body
    }

    /// Asks for seats.
    pub async fn book(&self, by: &Person, event: Uuid, seats: u32) -> Reply {
        self.booking(by, json!({"event_id": event, "seats": seats})).send().await
    }

    /// Asks for these seats.
    pub async fn take(&self, by: &Person, event: Uuid, numbers: &[u32]) -> Reply {
        self.booking(by, json!({"event_id": event, "seat_numbers": numbers})).send().await
    }

    /// A booking to be sent.
    pub fn booking(&self, by: &Person, body: Value) -> Ask {
        self.call("POST", "/bookings").bearer(&by.token).json(body)
    }

    /// Cancels a booking, or what `part` says of it.
    pub async fn cancel(&self, by: &Person, booking: &Value, part: Value) -> Reply {
        let booking = super::id(booking);
        let ask = self.call("POST", &format!("/bookings/{booking}/cancel")).bearer(&by.token);
        if part.is_null() { ask.send().await } else { ask.json(part).send().await }
    }

    /// Where a party stands.
    pub async fn standing(&self, by: &Person, booking: &Value) -> Value {
        let path = format!("/bookings/{}/waitlist", super::id(booking));
        self.call("GET", &path).bearer(&by.token).send().await.expect(200).body
    }

    /// The types in somebody's inbox, in the order in which they were caused, whichever of the
    /// competing consumers was faster.
    pub async fn inbox(&self, by: &Person) -> Vec<String> {
        let ask = self.call("GET", "/me/notifications?limit=100").bearer(&by.token);
        let reply = ask.send().await.expect(200);
        let types = reply.items().iter().rev().map(|one| one["type"].as_str().unwrap().to_owned());
        types.collect()
    }
}

/// `more` over `base`, field by field; null takes a field away.
pub fn over(mut base: Value, more: Value) -> Value {
    if let (Some(fields), Value::Object(more)) = (base.as_object_mut(), more) {
        for (name, value) in more {
            if value.is_null() {
                fields.remove(&name);
            } else {
                fields.insert(name, value);
            }
        }
    }
    base
}
