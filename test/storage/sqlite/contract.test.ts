/** The contract of every engine, run on SQLite. */
import t from 'tap'
import { openSqliteStorage } from '../../helper.js'
import { storageContract } from '../contract.js'

storageContract(t, t => openSqliteStorage(t))
