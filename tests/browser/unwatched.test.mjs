// A publisher without subscribers stops sending video after a while, and resumes as soon as somebody subscribes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './harness/browser.mjs';
import { TEST_MS, until } from './harness/limits.mjs';
import { end, openPerson, PEOPLE, startPages } from './harness/participants.mjs';
import { startServer } from './harness/server.mjs';
import { printTable } from './harness/table.mjs';

const options = { timeout: TEST_MS };
let server, pages, browser;

before(async () => {
  server = await startServer();
  pages = await startPages();
  browser = await startBrowser();
}, options);

after(() => end([], browser, pages, server), options);

for (const singlePeerConnection of [true, false]) {
  const name = singlePeerConnection ? 'one connection' : 'two connections';
  test(`a publisher with ${name} is paused while nobody watches`, options, async () => {
    const room = `unwatched-${process.pid}-${singlePeerConnection}`;
    const ada = await openPerson(browser, pages, PEOPLE[0], { dynacast: true, singlePeerConnection });
    const ben = await openPerson(browser, pages, PEOPLE[1], { onlyWatches: true });
    await ada.join(server.ws, room);
    const sends = async () => (await ada.call('layers')).filter(({ active }) => active).length;
    await until('all layers to be sent', async () => (await sends()) === 3);
    const began = Date.now();
    await until('no layer to be sent any more', async () => (await sends()) === 0);
    const paused = Date.now() - began;

    await ben.join(server.ws, room);
    const seen = await until('ben to see ada', async () => {
      const view = (await ben.call('view')).ada;
      return view?.firstPicture !== undefined && view;
    });
    await until('all layers to be sent again', async () => (await sends()) === 3);
    await ben.call('leave');
    await until('no layer to be sent once more', async () => (await sends()) === 0);

    const bad = (await ada.events()).filter(({ what, who }) => what === 'quality' && /poor|lost/.test(who));
    assert.deepEqual(bad, [], 'that nothing is sent is no bad connection');
    assert.deepEqual(ada.page.failures, []);
    printTable('A publisher whom nobody watches (ms)', [{ client: name, 'paused after': paused, 'picture of who comes': seen.firstPicture }]);
    await ada.call('leave');
    await ada.page.close();
    await ben.page.close();
  });
}
