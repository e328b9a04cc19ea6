-- The plain transaction: one booking, one message, one conditional update of the event.
BEGIN;
INSERT INTO bookings (id, event_id, user_id, status, seats, created_at)
VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'confirmed', 1, now());
INSERT INTO outbox (id, aggregate_id, type, payload, created_at)
VALUES (gen_random_uuid(), gen_random_uuid(), 'booking_confirmed',
        '{"type":"booking_confirmed","eventId":"0190c0de-0000-7000-8000-000000000000","userId":"0190c0de-0000-7000-8000-000000000001","seats":1}',
        now());
UPDATE events SET available_slots = available_slots - 1 WHERE id = 1 AND available_slots >= 1;
END;
