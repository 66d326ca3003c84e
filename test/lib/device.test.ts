/** User agents as people know them. */
import t from 'tap'
import { describeDevice } from '../../lib/device.js'

t.test('a user agent as people know it', async t => {
  const devices: [string | null, string | null][] = [
    ['Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0', 'Firefox on Windows'],
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1', 'Safari on iOS'],
    ['curl/8.5.0', 'curl'],
    ['python-requests/2.31', 'python-requests'],
    ['Mozilla/5.0 (X11; Linux x86_64)', 'Linux'],
    ['Mozilla/5.0', null],
    ['!!!', null],
    ['', null],
    [null, null]
  ]
  for (const [userAgent, device] of devices) t.equal(describeDevice(userAgent), device, String(userAgent))
})

t.test('what is remembered is what was read; long ones are read each time', async t => {
  const agent = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
  t.equal(describeDevice(agent), 'Firefox on Linux')
  t.equal(describeDevice(agent), 'Firefox on Linux')
  const long = `${agent} ${'x'.repeat(500)}`
  t.equal(describeDevice(long), 'Firefox on Linux')
  t.equal(describeDevice('~'), null)
  t.equal(describeDevice('~'), null, 'also that there is nothing to read')
})
