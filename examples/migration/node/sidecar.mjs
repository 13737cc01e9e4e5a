// For a Node program that stays one: DRM runs beside it, as a `drmctl agent` that this starts, and tells it over HTTP
// what to handle. See docs/webhook.md for what the messages mean.
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { once } from 'node:events'

// receiver makes an HTTP listener of the four functions of a resourceHandler. Each may return a promise.
export function receiver (resourceHandler) {
  const highest = new Map() // id → the highest fencing token seen
  const running = new Map() // id → the resource, as it is handled
  const turns = new Map() // id → the end of the last request about it, for one comes after the other

  async function end (id) {
    if (!running.has(id)) return
    await resourceHandler.terminateResource(running.get(id))
    running.delete(id)
  }

  async function act (message, arrived) {
    const { action, token, resource, error } = message
    const outdated = token < (highest.get(resource.id) ?? 0) // from a member that has lost the resource
    if (!outdated) highest.set(resource.id, token)
    switch (action) {
      case 'handle':
      case 'update':
        if (outdated) return 409
        if (performance.now() - arrived >= message.valid_ms) return 503 // it waited for too long
        await end(resource.id)
        await resourceHandler.handleResource(resource)
        running.set(resource.id, resource)
        break
      case 'terminate':
        if (!outdated) await end(resource.id)
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

  async function listener (request, response) {
    const arrived = performance.now()
    let status, text
    try {
      const chunks = await request.toArray()
      const message = JSON.parse(Buffer.concat(chunks))
      const id = message.resource.id
      const turn = (turns.get(id) ?? Promise.resolve()).then(() => act(message, arrived))
      const over = turn.catch(() => {})
      turns.set(id, over)
      over.then(() => { if (turns.get(id) === over) turns.delete(id) })
      status = await turn
    } catch (err) {
      status = 500
      text = err.message // drmctl assignments shows it
    }
    response.writeHead(status).end(text)
  }

  // endAll is for when nobody tells to terminate any more.
  const endAll = () => Promise.allSettled([...running.keys()].map(end))
  return { listener, endAll }
}

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
