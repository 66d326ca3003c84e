/**
 * What a client sees of an error: `{ statusCode, code, error, message }` with a code of the catalogue. Below 500 the message
 * says what was wrong with the request; from 500 on it says nothing about the inside (no SQL, paths or stacks: those are
 * in the log), and 503 says when to try again.
 */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { doormanError, isDoormanError, RETRY_AFTER_SECONDS, type DoormanErrorCode } from '../errors.js'
import { refusalStatus } from '../lib/server-watch.js'
import { hideTokens } from '../lib/token.js'

export function errorHandler (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const status = statusOf(error)
  if (status >= 500) request.log.error({ err: error }, 'request failed')
  else request.log.debug({ err: error }, 'request refused')
  if (status === 503) reply.header('retry-after', RETRY_AFTER_SECONDS)
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  reply.code(status).send({ statusCode: status, code: codeOf(error, status), error: STATUS_CODES[status], message: messageOf(error, status) })
}

export function notFoundHandler (request: FastifyRequest, reply: FastifyReply): void {
  reply.send(doormanError('DOORMAN_NOT_FOUND'))
}

/** In place of Fastify's own messages, which repeat the URL: its query may hold secrets, for replies and logs alike. */
const REFUSALS: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: 'The URL cannot be decoded',
  FST_ERR_MAX_PARAM_LENGTH: 'A part of the URL is too long'
}

/** What Fastify refuses before any hook or route, such as a URL that cannot be decoded, as an error of the catalogue. */
export function refusedByFramework (error: FastifyError): FastifyError {
  const message = REFUSALS[error.code]
  const refusal = message === undefined
    ? doormanError('DOORMAN_REQUEST_REFUSED', ['The request cannot be routed'], error)
    : doormanError('DOORMAN_REQUEST_REFUSED', [message])
  return Object.assign(refusal, { statusCode: statusOf(error) })
}

/** What the parser refuses, by status. */
const UNREADABLE: Readonly<Record<number, string>> = {
  400: 'This is no proper HTTP request',
  408: 'The request did not arrive in time',
  431: 'The headers are too large'
}

/**
 * Answers what Node's parser refuses, as every other error is answered. Logs why, but not the error: Node hangs the bytes of the
 * connection on to it, with the token or the key among them, and Fastify's own handler logs them.
 */
export function refusedByParser (this: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  const status = refusalStatus(error)
  if (status !== null && socket.writable) {
    this.log.debug({ reason: error.code, status }, 'request refused by the parser')
    const body = JSON.stringify({ statusCode: status, code: 'DOORMAN_REQUEST_REFUSED', error: STATUS_CODES[status], message: UNREADABLE[status] })
    socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Length: ${body.length}\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\n\r\n${body}`)
  }
  socket.destroy(error)
}

function statusOf (error: FastifyError): number {
  const status = error.statusCode
  return status !== undefined && status >= 400 && STATUS_CODES[status] !== undefined ? status : 500
}

function codeOf (error: FastifyError, status: number): DoormanErrorCode {
  if (isDoormanError(error) && (status < 500 || status === 503)) return error.code
  return status < 500 ? 'DOORMAN_REQUEST_INVALID' : 'DOORMAN_INTERNAL'
}

function messageOf (error: FastifyError, status: number): string {
  if (status < 500) return error.message
  return status === 503 ? 'The service cannot do this at the moment: try again later' : 'Internal error'
}

/** Part of a schema error that the message is made of; ajv and TypeBox agree on it. */
interface SchemaFinding { instancePath: string, message?: string, params?: Record<string, unknown> }

/** Names the property that a schema refused, which the validators' own messages leave out. */
export function schemaErrorFormatter (findings: SchemaFinding[], part: string): Error {
  // For an unknown property TypeBox first says that its schema is false, which says nothing to people.
  const { instancePath, message, params } = findings.find(finding => finding.params?.additionalProperties !== undefined) ?? findings[0]!
  const names = params?.additionalProperties
  const extra = Array.isArray(names) ? `: ${hideTokens(names.join(', '))}` : ''
  return doormanError('DOORMAN_REQUEST_INVALID', [`${part}${instancePath.replaceAll('/', '.')} ${message}${extra}`])
}
