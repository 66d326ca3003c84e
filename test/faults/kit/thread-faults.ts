/**
 * Faults from within, loaded with `--import` into the service under test and, inherited, into each of its threads: SQLite is told to let the
 * files grow no further, or the writer thread dies. Everything else is as it always is. Commands are messages of the parent process.
 */
import Database from 'better-sqlite3'
import { createRequire, syncBuiltinESMExports } from 'node:module'
import { BroadcastChannel, isMainThread, Worker, type WorkerOptions } from 'node:worker_threads'

export type ThreadFault =
  /** Most pages of each file, in the writer: with 1 it cannot grow beyond what it has. Null: as many as SQLite allows. */
  | { do: 'limitPages', pages: number | null }
  /** The writer thread meets an error that nobody catches. */
  | { do: 'throw' }
  /** It ends itself. */
  | { do: 'exit' }
  /** It uses up its memory. */
  | { do: 'exhaust' }
  /**
   * It is killed from outside, while it runs JavaScript: where the driver is just then making an error out of SQLite's code (at each try for
   * a lock), V8 hands it nothing to make it of, and better-sqlite3 aborts the whole process (v8::ToLocalChecked). Nothing in the suite ends a
   * thread that way.
   */
  | { do: 'terminate' }

export interface FaultMessage { fault: ThreadFault }

/** Said by a thread that waits to be killed. */
const HELD = 'held'
const NO_LIMIT = 4_294_967_294
/** Enough for the writer's work, little enough to be used up in no time, MB. */
const WRITER_HEAP_MB = 96

const channel = new BroadcastChannel('doorman-faults')
channel.unref()
if (isMainThread) inMainThread()
else inThread()

/** Gets hold of the writer thread, and passes commands on. */
function inMainThread (): void {
  let writer: Worker | undefined
  const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof Worker }
  threads.Worker = class extends Worker {
    constructor (script: string | URL, options: WorkerOptions) {
      const isWriter = options.name === 'doorman-writer'
      super(script, isWriter ? { ...options, resourceLimits: { maxOldGenerationSizeMb: WRITER_HEAP_MB } } : options)
      if (isWriter) writer = this
    }
  }
  syncBuiltinESMExports()

  const done = () => { process.send!({ fault: 'done' }) }
  channel.onmessage = message => {
    if ((message as { data: string }).data === HELD) writer!.terminate().then(done)
    else done()
  }
  process.on('message', ({ fault }: Partial<FaultMessage>) => {
    if (fault !== undefined) channel.postMessage(fault)
  })
  // Listening must not keep the process alive.
  process.channel!.unref()
}

function inThread (): void {
  const writing = new Set<Database.Database>()
  // Every connection is configured by pragmas, so each of them comes by here.
  const { pragma } = Database.prototype as unknown as { pragma: Database.Database['pragma'] }
  Object.assign(Database.prototype, {
    pragma (this: Database.Database, ...args: Parameters<typeof pragma>) {
      if (!this.readonly) writing.add(this)
      return pragma.apply(this, args)
    }
  })
  channel.onmessage = message => {
    if (writing.size === 0) return
    const fault = (message as { data: ThreadFault }).data
    if (fault.do === 'limitPages') {
      for (const db of writing) db.pragma(`max_page_count = ${fault.pages ?? NO_LIMIT}`)
    }
    channel.postMessage(fault.do === 'terminate' ? HELD : 'done')
    setImmediate(strike, fault)
  }
}

function strike (fault: ThreadFault): void {
  if (fault.do === 'throw') throw new Error('thrown by the fault suite')
  if (fault.do === 'exit') process.exit(3)
  if (fault.do === 'terminate') for (;;);
  if (fault.do === 'exhaust') {
    const kept: number[][] = []
    for (;;) kept.push(Array<number>(50_000).fill(0))
  }
}
