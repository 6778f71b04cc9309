// The page on which the drivers move: it draws what comes over its WebSocket.

export const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>Fleet</title>
<style>
  body { margin: 0; background: #10151c; color: #d7dee8; font: 14px system-ui }
  canvas { display: block; width: 100vw; height: 100vh }
  p { position: fixed; left: 1em; top: 0 }
</style>
<p id="count">no position yet</p>
<canvas id="map"></canvas>
<script>
  const AREA = { south: 25.5, north: 26.2, west: -80.5, east: -80.1 }
  const drivers = new Map()
  const canvas = document.getElementById('map')
  const draw = canvas.getContext('2d')
  const socket = new WebSocket(location.href.replace('http', 'ws'))
  socket.onclose = () => (document.getElementById('count').textContent = 'the service has ended')
  socket.onmessage = ({ data }) => {
    for (const position of JSON.parse(data)) drivers.set(position.driver, position)
    document.getElementById('count').textContent = drivers.size + ' drivers'
    canvas.width = innerWidth
    canvas.height = innerHeight
    for (const { lat, lng, kmh, zone } of drivers.values()) {
      draw.fillStyle = kmh > 110 ? '#ff5c5c' : zone ? '#ffc857' : '#4fb3ff'
      const x = ((lng - AREA.west) / (AREA.east - AREA.west)) * canvas.width
      const y = ((AREA.north - lat) / (AREA.north - AREA.south)) * canvas.height
      draw.fillRect(x - 1.5, y - 1.5, 3, 3)
    }
  }
</script>
`
