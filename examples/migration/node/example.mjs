// A program that moved to the sidecar: its resourceHandler is what it was. This one only prints, and so needs no package.
import { resourceManager } from './sidecar.mjs'

const resourceHandler = {
  handleResource (resource) { console.log(`handling ${resource.id}`) },
  handleFailedResource (resource, err) { console.error(`cannot handle ${resource.id}: ${err.message}`) },
  terminateResource (resource) { console.log(`terminating ${resource.id}`) },
  handleFailedTermination (resource, err) { console.error(`cannot terminate ${resource.id}: ${err.message}`) }
}

const { stop, ended } = await resourceManager({
  app: 'resource-manager-test',
  endpoints: process.env.ENDPOINTS ?? '127.0.0.1:2379',
  resourcesUrl: process.env.RESOURCES_URL ?? 'http://localhost:3000/resources',
  resourceHandler,
  drmctl: process.env.DRMCTL
})
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
process.exitCode = await ended === 0 ? 0 : 1
