/**
 * A foreign program that shares the database files, run as a process of its own: holds the write lock, or stays on an old snapshot.
 * Driven by messages of its parent; what it did is its answer.
 */
import Database from 'better-sqlite3'

export type OutsiderCommand =
  /** Takes the write lock of each file, waiting for it if need be. */
  | { do: 'lock', files: string[] }
  /** Begins to read each file, and does not end. */
  | { do: 'pin', files: string[] }
  /** Ends whatever it holds. */
  | { do: 'release' }

const held: Database.Database[] = []

const commands = {
  lock ({ files }: { files: string[] }) {
    for (const file of files) open(file).exec('BEGIN IMMEDIATE')
  },
  pin ({ files }: { files: string[] }) {
    for (const file of files) {
      const db = open(file)
      db.exec('BEGIN')
      db.prepare('SELECT count(*) FROM sqlite_schema').get()
    }
  },
  release () {
    for (const db of held.splice(0)) {
      db.exec('ROLLBACK')
      db.close()
    }
  }
}

function open (file: string): Database.Database {
  const db = new Database(file, { timeout: 60_000, fileMustExist: true })
  held.push(db)
  return db
}

process.on('message', (command: OutsiderCommand) => {
  commands[command.do](command as never)
  process.send!('done')
})
process.on('disconnect', () => process.exit())
