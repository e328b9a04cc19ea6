/**
 * How things are said: dates, counts, seats, durations. One place, so that the page speaks with
 * one voice. Nothing here touches the document.
 */

const DAY = new Intl.DateTimeFormat(undefined, {
  weekday: 'short',
  day: 'numeric',
  month: 'long',
  year: 'numeric',
});
const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const ZONED = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  timeZoneName: 'short',
});
const MOMENT = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});
const NUMBER = new Intl.NumberFormat();

/** `Sat, 12 December 2026` */
export const day = (at) => DAY.format(new Date(at));

/** `12 Dec, 20:00` */
export const moment = (at) => MOMENT.format(new Date(at));

/** `1,234` */
export const number = (value) => NUMBER.format(value);

/** When something takes place: one line, in the reader's own time zone, which it names. */
export function span(from, to) {
  const [start, end] = [new Date(from), to ? new Date(to) : null];
  if (!end) return `${DAY.format(start)}, ${ZONED.format(start)}`;
  if (DAY.format(start) === DAY.format(end)) {
    return `${DAY.format(start)}, ${TIME.format(start)} – ${ZONED.format(end)}`;
  }
  return `${DAY.format(start)}, ${TIME.format(start)} – ${DAY.format(end)}, ${ZONED.format(end)}`;
}

/** `1 seat`, `12 seats` */
export const seats = (count) => (count === 1 ? '1 seat' : `${number(count)} seats`);

/** `a, b and c` */
export function list(words) {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

/** Milliseconds as `1:05`, never below `0:00`. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** Milliseconds as `1 minute 5 seconds`, for ears. */
export function spokenDuration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  const part = (count, unit) => (count === 0 ? '' : `${count} ${unit}${count === 1 ? '' : 's'}`);
  return [part(minutes, 'minute'), part(rest, 'second')].filter(Boolean).join(' ') || 'no time';
}

/** How long ago, roughly. */
export function ago(at, now) {
  const minutes = Math.round((now - new Date(at).getTime()) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return minutes === 1 ? '1 minute ago' : `${minutes} minutes ago`;
  return moment(at);
}
