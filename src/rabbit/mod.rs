//! MAIL ROOM. RabbitMQ: topology, envelope, publisher with confirms, consumer with verdicts.
