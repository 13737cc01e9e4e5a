// For a Node program that stays one: DRM runs beside it, as a `drmctl agent` that this starts, and tells it over HTTP
// what to handle. See docs/webhook.md for what the messages mean.
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { randomUUID } from 'node:crypto'

// earlier says which of two requests for one resource was sent first: each is a pair of token and call.
const earlier = (a, b) => a.token < b.token || (a.token === b.token && a.call < b.call)
const same = (a, b) => a.token === b.token && a.call === b.call

// remember is how long a resource is remembered that nothing runs for and nothing is asked for, in milliseconds: longer than any
// request can be on its way.
const remember = 3600e3

// instance names this process. Members see from it that the receiver was restarted, and hand everything over again.
const instance = randomUUID()
const actions = ['handle', 'update', 'terminate', 'handle_failed', 'terminate_failed']

// receiver makes an HTTP listener of the four functions of a resourceHandler. Each may return a promise.
export function receiver (resourceHandler) {
  // id → newest: the highest pair that came; begun: the last handle; running: what runs, and since which; busy: how many requests are
  // being worked on, or wait; last: when the last one was done
  const known = new Map()
  let swept = 0 // when forget looked last

  // forget drops the resources of which nothing is left that could matter. It looks now and then only.
  function forget () {
    const now = performance.now()
    if (now - swept < remember / 4) return
    swept = now
    for (const [id, k] of known) {
      if (k.busy === 0 && !k.running && now - k.last >= remember) known.delete(id)
    }
  }

  async function end (k) {
    if (!k.running) return
    await resourceHandler.terminateResource(k.running.resource)
    k.running = null
  }

  async function act (k, sent, message, arrived) {
    const { action, resource, error } = message
    switch (action) {
      case 'handle':
      case 'update':
        if (earlier(sent, k.newest)) return 409 // a request that was sent later has come
        if (same(sent, k.begun)) return k.running && same(sent, k.running.sent) ? 204 : 409 // the same request twice
        k.begun = sent
        if (performance.now() - arrived >= message.valid_ms) return 503 // another member may have it by now
        await end(k) // asked again, or changed, or the member before never said terminate
        await resourceHandler.handleResource(resource)
        k.running = { sent, resource }
        if (earlier(sent, k.newest)) { // given up meanwhile: nobody wants what was started
          await end(k)
          return 409
        }
        break
      case 'terminate':
        if (!earlier(sent, k.newest)) await end(k)
        break
      case 'handle_failed':
        resourceHandler.handleFailedResource(resource, new Error(error))
        break
      case 'terminate_failed':
        resourceHandler.handleFailedTermination(resource, new Error(error))
        break
    }
    return 204
  }

  // check says whether what a member was given works. A real receiver also looks at what runs.
  const check = (k, token) => k && (k.busy > 0 || k.running?.sent.token === token) ? 204 : 410

  async function answer (message, arrived) {
    if (message.action === 'instance') return 204 // the header of the answer says it
    const id = message.resource.id
    if (message.action === 'check') return check(known.get(id), message.token)
    if (!actions.includes(message.action)) return 404
    const sent = { token: message.token, call: message.call }
    forget()
    if (!known.has(id)) known.set(id, { newest: sent, begun: { token: 0, call: 0 }, running: null, busy: 0, last: 0, turn: Promise.resolve() })
    const k = known.get(id)
    k.busy++
    if (earlier(k.newest, sent)) k.newest = sent // before it waits for its turn: what was sent earlier is outdated from now on
    const turn = k.turn.then(() => act(k, sent, message, arrived)).finally(() => {
      k.busy--
      k.last = performance.now()
    })
    k.turn = turn.catch(() => {})
    return turn
  }

  async function listener (request, response) {
    const arrived = performance.now()
    let status, text
    try {
      const chunks = await request.toArray()
      status = await answer(JSON.parse(Buffer.concat(chunks)), arrived)
    } catch (err) {
      status = 500
      text = err.message // drmctl assignments shows it
    }
    response.writeHead(status, { 'DRM-Instance': instance }).end(text)
  }

  // endAll is for when nobody tells to terminate any more.
  const endAll = () => Promise.allSettled([...known.values()].map(end))
  return { listener, endAll, known }
}
// end of receiver

// resourceManager makes this process a member. What it returns: stop, which hands everything over, and ended, a promise
// of the exit code of the agent.
export async function resourceManager ({ app, endpoints, resourcesUrl, resourceHandler, drmctl = 'drmctl', flags = [] }) {
  const { listener, endAll } = receiver(resourceHandler)
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  // Agent and program live and die together: the agent ends when its stdin does, and what it left is ended here.
  const agent = spawn(drmctl, [
    'agent', '--app', app, '--endpoints', endpoints, '--source-url', resourcesUrl,
    '--handler-url', `http://127.0.0.1:${server.address().port}/`, '--stop-on-eof', ...flags
  ], { stdio: ['pipe', 'inherit', 'inherit'] })
  const ended = new Promise((resolve, reject) => {
    agent.once('error', reject)
    agent.once('exit', async (code, signal) => {
      await endAll()
      server.close()
      server.closeAllConnections()
      resolve(code ?? signal)
    })
  })
  const stop = () => {
    agent.stdin.end()
    return ended
  }
  return { stop, ended }
}
