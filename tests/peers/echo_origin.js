// An HTTP/1.1 origin by Node: answers each request with how it read it. Values are told as latin-1.
const http = require('http');

const server = http.createServer({ requireHostHeader: true }, (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const at = request.url.indexOf('?');
    const headers = [];
    for (let n = 0; n < request.rawHeaders.length; n += 2) {
      headers.push([request.rawHeaders[n].toLowerCase(), request.rawHeaders[n + 1]]);
    }
    const told = {
      method: request.method,
      path: at < 0 ? request.url : request.url.slice(0, at),
      query: at < 0 ? null : request.url.slice(at + 1),
      headers,
      body: Buffer.concat(parts).toString('latin1'),
    };
    const answer = Buffer.from(JSON.stringify(told));
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
    response.end(answer);
  });
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
