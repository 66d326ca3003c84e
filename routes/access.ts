/**
 * Who may use a route. Every route of the API names one of these as its `config`; one without stops the start
 * (plugins/access.ts), so that no route is open by accident.
 */

/** Anybody. The session, if there is one, is not looked at. */
export const PUBLIC = { access: 'public', session: false } as const

/** Whoever holds a live session. */
export const SESSION = { access: 'session', session: 'required' } as const

/** Whoever holds an API key. A service that asks for what is not there is at work, not at the door: its 404s are no signal. */
export const API_KEY = { access: 'apiKey', session: false, abuse: false } as const

/** Beside one of these, for who watches the process: the reply never waits for the log, which may be just what is wrong. */
export const WATCH = { ipTracking: { durability: 'queued' } } as const
