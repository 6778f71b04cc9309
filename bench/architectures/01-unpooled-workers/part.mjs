import { parentPort, workerData } from 'node:worker_threads'
import { countPart } from '../lib/counting.mjs'

const { seed, from, to } = workerData
parentPort?.postMessage(countPart(seed, from, to))
