//! DOOR. The route table on one screen; extractors that grant; one file a noun.

pub mod accounts;
pub mod admin_alarms;
pub mod admin_audit;
pub mod admin_dead_letters;
pub mod admin_integrity;
pub mod admin_messages;
pub mod admin_redrives;
pub mod admin_streams;
pub mod admin_tail;
pub mod admin_trace;
pub mod alerts;
pub mod api_keys;
pub mod asyncapi;
pub mod body;
pub mod booking_lists;
pub mod bookings;
pub mod caller;
pub mod docs;
pub mod event_body;
pub mod events;
pub mod guard;
pub mod health;
pub mod holds;
pub mod interests;
pub mod invitations;
pub mod limits;
pub mod metrics;
pub mod notifications;
pub mod organizations;
pub mod page;
pub mod pages;
pub mod problem;
pub mod query;
pub mod reply;
pub mod seat_map_body;
pub mod seats;
pub mod time;
pub mod trace;

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App as Service, Error, web};
use metrics_exporter_prometheus::PrometheusHandle;
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_actix_web::{AppExt as _, scope};

use self::asyncapi::Messages;
use self::docs::Document;
use self::health::Readiness;
use self::limits::Limits;
use self::pages::Pages;
use crate::app::App;

/// The API: one line a noun.
fn api(cfg: &mut ServiceConfig<'_>) {
    cfg.configure(accounts::routes)
        .configure(admin_alarms::routes)
        .configure(admin_audit::routes)
        .configure(admin_integrity::routes)
        .configure(alerts::routes)
        .configure(api_keys::routes)
        .configure(bookings::routes)
        .configure(events::routes)
        .configure(holds::routes)
        .configure(interests::routes)
        .configure(invitations::routes)
        .configure(notifications::routes)
        .configure(organizations::routes)
        .configure(admin_messages::routes)
        .configure(admin_redrives::routes)
        .configure(admin_dead_letters::routes)
        .configure(admin_streams::routes)
        .configure(admin_tail::routes)
        .configure(admin_trace::routes);
}

/// What stands at the root, besides the pages of `docs.rs` and `pages.rs`.
fn root(cfg: &mut ServiceConfig<'_>) {
    cfg.configure(health::routes).configure(metrics::routes);
}

/// Routes that another room brings: `ws` knows of `http`, not the other way round.
pub type Routes = fn(&mut ServiceConfig<'_>);

/// All that the routes of one process share. Made once; each worker thread has a copy.
#[derive(Clone)]
pub struct Door {
    app: web::Data<App>,
    limits: web::Data<Limits>,
    readiness: web::Data<Readiness>,
    recorder: web::Data<PrometheusHandle>,
    document: web::Data<Document>,
    messages: web::Data<Messages>,
    sockets: Routes,
    pages: web::Data<Pages>,
}

impl Door {
    /// Hangs the door. `sockets` are the routes of the sockets.
    ///
    /// # Errors
    /// When the settings of the limits cannot be used.
    pub fn new(
        app: App,
        readiness: Arc<Readiness>,
        recorder: PrometheusHandle,
        sockets: Routes,
    ) -> anyhow::Result<Self> {
        let limits = Limits::new(&app.config.limits, &app.config.http.trusted_proxies)?;
        Ok(Self {
            limits: web::Data::new(limits),
            readiness: web::Data::from(readiness),
            recorder: web::Data::new(recorder),
            document: web::Data::new(Document::new(openapi(sockets))),
            messages: web::Data::new(Messages::new(&app.registry)),
            pages: web::Data::new(Pages::new(app.config.demo)),
            app: web::Data::new(app),
            sockets,
        })
    }

    /// The service behind the listener (S0.3).
    pub fn service(
        &self,
    ) -> Service<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<impl MessageBody + use<>>,
            Error = Error,
            InitError = (),
        > + use<>,
    > {
        let origins = &self.app.config.http.cors_origins;
        let service = self.shared(Service::new());
        mounted(service, self.sockets)
            .into_app()
            .configure(docs::pages)
            .configure(asyncapi::pages)
            .configure(pages::routes)
            .wrap(Condition::new(!origins.is_empty(), cors(origins)))
            .wrap(from_fn(guard::guard))
            .wrap(from_fn(trace::trace))
    }

    fn shared<T>(&self, service: Service<T>) -> Service<T>
    where
        T: ServiceFactory<ServiceRequest, Config = (), Error = Error, InitError = ()>,
    {
        service
            .app_data(self.app.clone())
            .app_data(self.limits.clone())
            .app_data(self.readiness.clone())
            .app_data(self.recorder.clone())
            .app_data(self.document.clone())
            .app_data(self.messages.clone())
            .app_data(self.pages.clone())
            .app_data(guard::path_parameters())
            .default_service(web::to(guard::unmatched))
    }
}

/// The route table under its prefixes.
fn mounted<T>(service: Service<T>, sockets: Routes) -> utoipa_actix_web::UtoipaApp<T>
where
    T: ServiceFactory<ServiceRequest, Config = (), Error = Error, InitError = ()>,
{
    service
        .into_utoipa_app()
        .service(scope::scope("/api/v1").wrap(from_fn(limits::limit)).configure(api))
        .configure(root)
        .configure(sockets)
}

/// The document of the route table, as the handlers describe themselves.
fn openapi(sockets: Routes) -> utoipa::openapi::OpenApi {
    mounted(Service::new(), sockets).split_for_parts().1
}

/// Whom browsers may call for. Tokens travel in a header that scripts set, never in cookies, so
/// credentials stay off.
fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            header::LOCATION.as_str(),
            header::ETAG.as_str(),
            header::RETRY_AFTER.as_str(),
            "idempotency-replayed",
            "ratelimit",
            "ratelimit-policy",
            "x-request-id",
        ])
        .max_age(3600);
    if origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
